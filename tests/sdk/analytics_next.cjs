// The same with @segment/analytics-next in Chromium, on a page of another origin than weir's. Ends
// when every call was delivered.
const fs = require("node:fs");
const path = require("node:path");
const { launch, run, site } = require("./chromium.cjs");

const dist = path.join(path.dirname(require.resolve("@segment/analytics-next/package.json")), "dist/umd");

// Runs in the page.
async function send({ host, writeKey }) {
  const analytics = window.AnalyticsNext.AnalyticsBrowser.load({ writeKey, cdnURL: host });
  await analytics;
  const say = (id) => ({ messageId: `next-${id}`, timestamp: "2025-05-04T12:00:00Z" });
  analytics.setAnonymousId("next-a");
  const context = { app: { version: "1.2.3" }, os: { name: "iOS" } };
  // First of all, since a message that this SDK sends again carries the user id of that moment: one
  // from before the log-in would come a second time as somebody else's.
  await analytics.identify("next-u", { plan: "pro", logins: 5 }, say(1));
  await analytics.page("Docs", "Home", { path: "/" }, say(3));
  await analytics.track("Order Placed", { total: 1999, cart: { size: 2 } }, { ...say(2), context });
  await analytics.screen("Cart", {}, say(4));
  await analytics.group("acme", { seats: 7 }, say(5));
  await analytics.alias("next-u", "next-old", say(6));
}

run(async () => {
  const shop = await site((path_) =>
    path_.endsWith(".js")
      ? { type: "text/javascript", body: fs.readFileSync(path.join(dist, path.basename(path_))) }
      : { body: "<!doctype html><title>A shop</title><script src=/index.js></script>" });
  const browser = await launch();
  const page = await (await browser.newContext({ locale: "de-DE" })).newPage();
  page.on("console", (message) => console.error("console:", message.text()));
  // A call that is answered with an error is tried again after its promise is kept, so what was
  // delivered is counted here.
  const delivered = new Set();
  const all = new Promise((resolve) => {
    page.on("response", (response) => {
      const request = response.request();
      if (request.method() !== "POST" || !response.ok()) return;
      delivered.add(JSON.parse(request.postData()).messageId);
      if (delivered.size === 6) resolve();
    });
  });
  await page.goto(`${shop.url}/shop?utm_source=news&utm_campaign=spring`);
  const { WEIR_HOST: host, WEIR_WRITE_KEY: writeKey } = process.env;
  await page.evaluate(send, { host, writeKey });
  await all;
  await browser.close();
  shop.close();
});
