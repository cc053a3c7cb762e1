// The same with @segment/analytics-next in Chromium, on a page of another origin than weir's. Ends
// when every call was delivered.
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { chromium } = require("playwright-core");

const dist = path.join(path.dirname(require.resolve("@segment/analytics-next/package.json")), "dist/umd");
const pages = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname.endsWith(".js")) {
    response.setHeader("content-type", "text/javascript");
    return fs.createReadStream(path.join(dist, path.basename(pathname))).pipe(response);
  }
  response.setHeader("content-type", "text/html");
  response.end("<!doctype html><title>A shop</title><script src=/index.js></script>");
});

// Runs in the page.
async function send({ host, writeKey }) {
  const analytics = window.AnalyticsNext.AnalyticsBrowser.load({ writeKey, cdnURL: host });
  await analytics;
  const failures = [];
  analytics.on("error", (error) => failures.push(`${error.code}: ${error.reason}`));
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
  return failures;
}

async function main() {
  await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
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
    await page.goto(`http://127.0.0.1:${pages.address().port}/shop?utm_source=news&utm_campaign=spring`);
    const { WEIR_HOST: host, WEIR_WRITE_KEY: writeKey } = process.env;
    const failures = await page.evaluate(send, { host, writeKey });
    const late = setTimeout(() => {
      console.error("not delivered after 60 s; delivered:", [...delivered], "failures:", failures);
      process.exit(1);
    }, 60000);
    await all;
    clearTimeout(late);
  } finally {
    await browser.close();
    pages.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
