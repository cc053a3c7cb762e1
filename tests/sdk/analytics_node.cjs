// Sends all six calls with @segment/analytics-node. WEIR_HOST and WEIR_WRITE_KEY say where to; the
// message ids are the same in every run, so a second run must not count again.
const { Analytics } = require("@segment/analytics-node");

const analytics = new Analytics({ host: process.env.WEIR_HOST, writeKey: process.env.WEIR_WRITE_KEY });
analytics.on("error", (error) => {
  console.error("the SDK gave up:", error);
  process.exitCode = 1;
});

const say = (id) => ({ messageId: `node-${id}`, timestamp: new Date("2025-05-04T12:00:00Z") });
const context = { app: { version: "1.2.3" }, os: { name: "iOS" }, campaign: { source: "news" }, locale: "de-DE" };
analytics.identify({ ...say(1), userId: "node-u", anonymousId: "node-a", traits: { plan: "pro", logins: 5 } });
analytics.track({ ...say(2), userId: "node-u", event: "Order Placed", properties: { total: 1999, cart: { size: 2 } }, context });
analytics.page({ ...say(3), anonymousId: "node-a", name: "Home", category: "Docs", properties: { path: "/" } });
analytics.screen({ ...say(4), userId: "node-u", name: "Cart" });
analytics.group({ ...say(5), userId: "node-u", groupId: "acme", traits: { seats: 7 } });
analytics.alias({ ...say(6), userId: "node-u", previousId: "node-old" });
analytics.closeAndFlush({ timeout: 60000 });
