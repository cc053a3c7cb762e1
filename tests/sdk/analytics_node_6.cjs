// The same with analytics-node 6, the SDK that @segment/analytics-node followed.
const Analytics = require("analytics-node");

const analytics = new Analytics(process.env.WEIR_WRITE_KEY, {
  host: process.env.WEIR_HOST,
  errorHandler: (error) => {
    console.error("the SDK gave up:", error.message);
    process.exitCode = 1;
  },
});

const say = (id) => ({ messageId: `node6-${id}`, timestamp: new Date("2025-05-04T12:00:00Z") });
const context = { app: { version: "1.2.3" }, os: { name: "iOS" }, campaign: { source: "news" }, locale: "de-DE" };
analytics.identify({ ...say(1), userId: "node6-u", anonymousId: "node6-a", traits: { plan: "pro", logins: 5 } });
analytics.track({ ...say(2), userId: "node6-u", event: "Order Placed", properties: { total: 1999, cart: { size: 2 } }, context });
analytics.page({ ...say(3), anonymousId: "node6-a", name: "Home", category: "Docs", properties: { path: "/" } });
analytics.screen({ ...say(4), userId: "node6-u", name: "Cart" });
analytics.group({ ...say(5), userId: "node6-u", groupId: "acme", traits: { seats: 7 } });
analytics.alias({ ...say(6), userId: "node6-u", previousId: "node6-old" });
analytics.flush();
