// Visits a site whose pages load weir.js, one visit a scenario, each in a browser of its own. The test
// that runs this asks weir afterwards what it counted: events are named after their scenario.
const assert = require("node:assert");
const { launch, run, site } = require("./chromium.cjs");

const { WEIR_HOST: host, WEIR_WRITE_KEY: key } = process.env;
const document = (attributes, before) => `<!doctype html><html lang=en><title>A shop</title>
<script>${before}</script><script defer src="${host}/weir.js" data-key="${key}" ${attributes}></script>`;
const pages = {
  "/quiet": document("data-pageviews=off", ""),
  "/nothing-kept": document("data-pageviews=off data-store=none", ""),
  "/early": document("data-pageviews=off", 'window.weir=[["track","early",{n:1}]]'),
};

let browser, shop;

/** A visit: `page`, and `sent(name)`, which waits until weir has taken an event of that name. */
async function visit(scenario, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const requests = [], taken = [], waiting = [];
  page.on("request", (request) => request.method() === "POST" && requests.push(request));
  page.on("response", (response) => {
    const request = response.request();
    if (request.method() !== "POST" || !response.ok()) return;
    taken.push(...JSON.parse(request.postData()).batch.map((event) => event.event));
    waiting.forEach((look) => look());
  });
  const sent = (name, times = 1) =>
    new Promise((resolve) => {
      const look = () => taken.filter((other) => other === name).length >= times && resolve();
      waiting.push(look);
      look();
    });
  await scenario({ context, page, requests, sent });
  const cookies = await context.cookies();
  assert.deepEqual(cookies, [], "weir.js leaves no cookie");
  await context.close();
}

const track = (page, name, properties) => page.evaluate(([n, p]) => window.weir.track(n, p), [name, properties]);
const stored = (page) => page.evaluate(() => Object.keys(localStorage).map((name) => name.split(".")[2]).sort());

const scenarios = {
  async views_of_a_single_page_app({ page, sent }) {
    await page.goto(`${shop.url}/shop?utm_source=news`);
    await page.evaluate(() => {
      history.pushState({}, "", "/cart");
      history.pushState({}, "", "/cart");
      history.pushState({}, "", "/cart#top");
      history.pushState({}, "", "/pay");
    });
    await page.goBack();
    await page.waitForURL("**/cart#top");
    await sent("$pageview", 4);
    await page.goto(`${shop.url}/after-a-load`);
    await sent("$pageview", 5);
  },

  async calls_before_it_is_loaded({ page, sent }) {
    await page.goto(`${shop.url}/early`);
    await sent("early");
  },

  async a_person_from_before_the_log_in({ page, sent }) {
    await page.goto(`${shop.url}/quiet`);
    await track(page, "before_log_in");
    await page.evaluate(() => window.weir.identify("u1", { plan: "pro" }));
    // Said again on every page, it is sent once.
    await page.evaluate(() => window.weir.identify("u1"));
    await track(page, "after_log_in", { amount: 5, nested: { deep: true } });
    await sent("after_log_in");
    await page.goto(`${shop.url}/quiet?again`);
    await track(page, "after_log_in");
    await page.evaluate(() => window.weir.reset());
    await track(page, "after_log_out");
    await sent("after_log_out");
  },

  async offline_and_back({ context, page, sent }) {
    await page.goto(`${shop.url}/quiet`);
    await context.setOffline(true);
    await track(page, "while_offline");
    assert.deepEqual(await stored(page), ["anonymous", "queue"]);
    await context.setOffline(false);
    await sent("while_offline");
    await page.waitForFunction(() => !Object.keys(localStorage).some((name) => name.includes("queue")));
  },

  async offline_until_another_visit({ context, page }) {
    await page.goto(`${shop.url}/quiet`);
    await context.setOffline(true);
    await track(page, "kept_for_another_visit");
    await page.close();
    await context.setOffline(false);
    const next = await context.newPage();
    const taken = next.waitForResponse((response) => response.request().method() === "POST" && response.ok());
    await next.goto(`${shop.url}/quiet`);
    const [event] = JSON.parse((await taken).request().postData()).batch;
    assert.equal(event.event, "kept_for_another_visit");
  },

  // Nothing but a beacon can bring this one: requests hang, and the browser's storage goes with it.
  async leaving_at_once({ context, page }) {
    await context.addInitScript(() => (window.fetch = () => new Promise(() => {})));
    await page.goto(`${shop.url}/quiet`);
    await track(page, "while_leaving");
    await page.goto("about:blank");
  },

  async asked_not_to_track({ context, page, requests }) {
    await context.addInitScript(() => Object.defineProperty(navigator, "doNotTrack", { get: () => "1" }));
    await refuses(page, requests);
  },

  async asked_by_a_global_privacy_control({ context, page, requests }) {
    await context.addInitScript(() => Object.defineProperty(navigator, "globalPrivacyControl", { get: () => true }));
    await refuses(page, requests);
  },

  async opted_out_and_in({ page, requests, sent }) {
    await page.goto(`${shop.url}/quiet`);
    await track(page, "not_tracked");
    await page.evaluate(() => window.weir.optOut());
    assert.deepEqual(await stored(page), ["off"]);
    await page.goto(`${shop.url}/shop`);
    await track(page, "not_tracked");
    await page.evaluate(() => window.weir.flush());
    assert.deepEqual(await stored(page), ["off"]);
    await page.goto(`${shop.url}/quiet`);
    assert.deepEqual(requests, []);
    await page.evaluate(() => window.weir.optIn());
    await track(page, "opted_in");
    await sent("opted_in");
  },

  async nothing_kept({ page, sent }) {
    await page.goto(`${shop.url}/nothing-kept`);
    await track(page, "nothing_kept");
    await sent("nothing_kept");
    assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length), 0);
  },
};

/** Nothing is sent and nothing stored, neither by itself nor by calls. */
async function refuses(page, requests) {
  await page.goto(`${shop.url}/shop`);
  await track(page, "not_tracked");
  await page.evaluate(() => window.weir.identify("nobody"));
  await page.evaluate(() => window.weir.flush());
  await page.goto(`${shop.url}/cart`);
  assert.deepEqual(await stored(page), []);
  assert.deepEqual(requests, []);
}

run(async () => {
  shop = await site((path) => ({ body: pages[path] ?? document("", "") }));
  browser = await launch();
  for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(scenarios)) {
    await visit(scenarios[name]).catch((error) => {
      throw new Error(name, { cause: error });
    });
    console.log(`ok ${name}`);
  }
  await browser.close();
  shop.close();
});
