// What people do on the pages, each a check of its own.

import { expect, open, settled, window } from "./browser.mjs";

/** Runs `steps` in a fresh signed-in window and gives what went wrong. */
function check(steps, options = {}) {
  return async (plan) => {
    const browser = await open();
    const view = await window(browser, plan, options);
    const problems = [];
    try {
      await steps(view.page, plan);
    } catch (error) {
      problems.push(error.message, `the page: ${view.page.url()}`);
    }
    problems.push(...view.problems);
    await browser.close();
    return problems;
  };
}

const query = (page) => new URL(page.url()).searchParams;

export const menus = check(async (page, { project }) => {
  await page.goto(`${project}/ask`);
  await settled(page);
  // From the keyboard alone: open by typing, narrow, choose, and the address and the answer follow.
  await page.focus(".pick[aria-label^='Event']");
  await page.keyboard.press("p");
  await page.waitForSelector(".pick-panel [role=option] b");
  await page.keyboard.type("urch");
  const first = page.locator(".pick-panel [role=option]").first();
  expect((await first.textContent()).startsWith("purchased"), `typed "purch", first is ${await first.textContent()}`);
  expect(/\d/.test(await first.locator("b").textContent()), "an event has a count");
  const hint = await page.locator(".pick-hint").textContent();
  expect(/^Last seen .+ ago|^Last seen just now/.test(hint), `an event says when it was last seen, but says ${hint}`);
  await page.keyboard.press("Enter");
  await page.waitForURL(/s0\.event=purchased/);
  await page.waitForSelector("h2:has-text('Count of purchased')");
  const focused = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  expect(focused === "Event: purchased", `the focus stays at the menu, but is at ${focused}`);

  // Escape closes and changes nothing.
  await page.keyboard.press("ArrowDown");
  await page.waitForSelector(".pick-panel [role=option]");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Escape");
  expect(await page.locator(".pick-panel").count() === 0, "Escape closes the menu");
  expect(query(page).get("s0.event") === "purchased", "Escape changes nothing");

  // A filter: the property shows example values, the value is suggested with counts.
  await page.click("button:has-text('Add filter')");
  await page.waitForFunction(() => document.activeElement.matches(".pick.none"));
  await page.keyboard.type("countr");
  await page.waitForSelector(".pick-hint:has-text('For example')");
  const country = await page.locator(".pick-hint").textContent();
  expect(/^For example [A-Z]{2}, [A-Z]{2}.* · Last seen /.test(country), `examples of a country are ${country}`);
  // What does not exist in the project is not offered.
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.type("only_the_neighbour_has_this");
  await page.waitForSelector(".pick-hint:has-text('Nothing matches.')");
  expect(await page.locator(".pick-panel [role=option]").count() === 0, "there is nothing to choose");
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.type("countr");
  await page.waitForSelector(".pick-panel [role=option]:has-text('country')");
  await page.keyboard.press("Enter");
  await page.waitForURL(/f0\.property=country/);
  await page.focus("[name='f0.value']");
  const value = page.locator(".pick-panel [role=option]").first();
  const chosen = await value.locator("span").textContent();
  await value.click();
  await page.waitForFunction((text) => new URL(location.href).searchParams.get("f0.value") === text, chosen);
  await settled(page);

  // Back goes through the same steps, one at a time.
  await page.goBack();
  await page.waitForFunction(() => document.querySelector("[name='f0.value']")?.value === "");
  expect(!query(page).get("f0.value"), "back takes the value away");
});

/** On a phone a menu opens inside the window, and touching a row chooses it. */
export const phone = check(async (page, { project }) => {
  await page.goto(`${project}/ask?s0.measure=count&by=country`);
  await settled(page);
  for (const menu of ["Event", "Breakdown"]) {
    await page.tap(`.pick[aria-label^='${menu}']`);
    await page.waitForSelector(".pick-panel [role=option] b");
    const box = await page.locator(".pick-panel").boundingBox();
    expect(box.x >= 0 && box.x + box.width <= 390, `the menu of ${menu} is at ${box.x} and ${box.width} wide`);
    await page.keyboard.press("Escape");
  }
  await page.tap(".pick[aria-label^='Breakdown']");
  await page.tap(".pick-panel [role=option]:has-text('platform')");
  await page.waitForURL(/by=platform/);
  await page.tap(".nav-open-input");
  expect(await page.locator(".nav a:has-text('Persons')").isVisible(), "the menu of pages opens");
}, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });

export const sorting = check(async (page, { project }) => {
  await page.goto(`${project}/ask?s0.measure=count&by=country&granularity=day`);
  await settled(page);
  const totals = () => page.$$eval("#answer .card:first-of-type tbody tr td:last-child", (cells) => cells.map((cell) => Number(cell.textContent.replaceAll(",", ""))));
  await page.click("th a:has-text('Total')");
  await page.waitForURL(/sort=-total/);
  const most = await totals();
  await page.click("th a:has-text('Total')");
  await page.waitForURL(/sort=total/);
  const fewest = await totals();
  expect(most.length > 2 && most.every((value, at) => at === 0 || value <= most[at - 1]), `largest first: ${most}`);
  expect(fewest.every((value, at) => at === 0 || value >= fewest[at - 1]), `smallest first: ${fewest}`);
  expect(await page.locator("th[aria-sort=ascending]").count() === 1, "the header says how it is sorted");

  const [download] = await Promise.all([page.waitForEvent("download"), page.click("a:has-text('CSV')")]);
  expect(download.suggestedFilename().endsWith(".csv"), `a CSV file, not ${download.suggestedFilename()}`);

  await page.click("summary:has-text('The same question')");
  const curl = await page.textContent("pre:has-text('curl')");
  expect(curl.includes("/api/v1/tickets") && curl.includes('"breakdown"'), curl);
});

export const chart = check(async (page, { project }) => {
  await page.goto(`${project}/overview`);
  await settled(page);
  await page.locator(".chart-svg").first().hover();
  const tip = page.locator(".chart-tip");
  await tip.waitFor();
  expect(/\d/.test(await tip.textContent()), "the tip has values");
  await page.mouse.move(0, 0);
  await tip.waitFor({ state: "detached" });
  await page.focus(".chart-svg");
  await page.keyboard.press("End");
  const last = await tip.textContent();
  await page.keyboard.press("ArrowLeft");
  expect(await tip.textContent() !== last, "the arrow keys go from value to value");
});

/** From a figure of a funnel to the persons behind it, to one of them, and back. */
export const funnel = check(async (page, { project }) => {
  await page.goto(`${project}/ask?kind=funnel&s0.event=product_viewed&s1.event=added_to_cart&s2.event=purchased`);
  await settled(page);
  const lost = page.locator(".funnel-drop a").first();
  const said = await lost.textContent();
  await lost.click();
  await page.waitForURL(/ask\/persons\?.*outcome=dropped/);
  await settled(page);
  expect(await page.textContent(".card h2") === said, `the list is of ${said}, not of ${await page.textContent(".card h2")}`);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("a:has-text('CSV')")]);
  expect(download.suggestedFilename().endsWith(".csv"), `a CSV file, not ${download.suggestedFilename()}`);
  const address = page.url();
  const first = page.locator("tbody a").first();
  const id = await first.textContent();
  await first.click();
  await page.waitForURL(/persons\?id=/);
  expect(await page.textContent("h1") === id, "a row leads to the person");
  await page.goBack();
  expect(page.url() === address, "back leads to the list");
  await page.click("a:has-text('Reached')");
  await page.waitForURL(/outcome=converted/);
  await settled(page);
  const reached = await page.textContent(".card h2");
  await page.click("a:has-text('Back to the funnel')");
  await settled(page);
  const figure = await page.locator(".funnel-step a").nth(1).getAttribute("aria-label");
  expect(figure.startsWith(`${reached} reached step 2`), `the funnel says ${figure}, the list ${reached}`);
});

export const overview = check(async (page, { project }) => {
  await page.goto(`${project}/overview`);
  await settled(page);
  const events = () => page.textContent(".figure:first-child dd");
  const all = await events();
  await page.selectOption("[name=range]", "7d");
  await page.waitForURL(/range=7d/);
  await settled(page);
  expect(await events() !== all, "another range has other figures");
  await page.click("button:has-text('Filter')");
  await page.waitForFunction(() => document.activeElement.matches(".pick.none"));
  await page.keyboard.type("country");
  await page.keyboard.press("Enter");
  await page.waitForURL(/f0\.property=country/);
  const before = await events();
  await page.fill("[name='f0.value']", "DE");
  await page.keyboard.press("Tab");
  await page.waitForURL(/f0\.value=DE/);
  await settled(page);
  expect(await events() !== before, "a filter changes the figures");
  await page.reload();
  await settled(page);
  expect(await page.inputValue("[name='f0.value']") === "DE", "the address holds the filter");
});

export const theme = check(async (page, { project }) => {
  await page.goto(`${project}/overview`);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const system = await ground();
  await page.click("[data-theme-switch]");
  await page.click("[data-theme-switch]");
  expect(await page.getAttribute("html", "data-theme") === "dark", "two presses are dark");
  expect(await ground() !== system, "dark is another ground");
  await page.goto(`${project}/ask`);
  expect(await page.getAttribute("html", "data-theme") === "dark", "the next page is dark too");
}, { colorScheme: "light" });

export const live = check(async (page, { project, url, writeKey }) => {
  const send = (event) => page.request.post(`${url}/api/v1/events`, {
    headers: { authorization: `Bearer ${writeKey}` }, data: { event, distinct_id: "live-visitor" },
  });
  await page.goto(`${project}/live`);
  await send("arrives_by_itself");
  await page.waitForSelector(".live-row:has-text('arrives_by_itself')");
  await page.click("[data-pause]");
  await send("while_paused");
  // The next refresh would have come within this many ticks of the page's own clock.
  await page.evaluate(() => new Promise((done) => { let left = 200; const tick = () => (left-- ? requestAnimationFrame(tick) : done()); tick(); }));
  expect(await page.locator(".live-row:has-text('while_paused')").count() === 0, "a paused page stands still");
  await page.click("[data-pause]");
  await page.waitForSelector(".live-row:has-text('while_paused')");
  await page.fill("[name=event]", "while_paused");
  await page.keyboard.press("Enter");
  await page.waitForURL(/event=while_paused/);
  expect(await page.locator(".live-row").count() === 1, "the filter leaves one");
});

/** Reading works without scripts, and so do forms. */
export const plain = check(async (page, { project }) => {
  await page.goto(`${project}/overview`);
  expect(await page.locator(".chart-svg").count() >= 2, "charts are drawn by the server");
  await page.fill("[name=from]", "2026-01-01");
  await page.click("button.nojs-only");
  expect(query(page).get("range") === "custom" && query(page).get("from") === "2026-01-01", `changed days are shown, at ${page.url()}`);
  await page.goto(`${project}/ask?kind=funnel&s0.event=product_viewed&s1.event=purchased`);
  expect(await page.locator(".funnel-bar").count() === 2, "a funnel is drawn");
  const figures = page.url();
  await page.click(".funnel-drop a");
  expect(await page.locator("tbody a").count() === 100, "the persons behind a figure are listed");
  await page.goto(figures);
  await page.click("button:has-text('Add step')");
  expect(await page.locator("[name='s2.event']").count() === 1, "a step can be added");
}, { javaScriptEnabled: false });

export const start = check(async (page, { project, url, writeKey }) => {
  await page.goto(`${project}/start`);
  const badge = page.locator("#sender-curl .badge");
  expect((await badge.textContent()).includes("waiting"), "it waits before anything was sent");
  // Exactly what the snippet says, as curl would send it.
  await page.click(".sender:has(#sender-curl) summary");
  const snippet = await page.locator(".sender:has(#sender-curl) pre").textContent();
  expect(snippet.includes(writeKey) && snippet.includes(`${url}/api/v1/events`), snippet);
  const body = JSON.parse(snippet.match(/-d '(.*)'/)[1]);
  const answer = await page.request.post(`${url}/api/v1/events`, { headers: { authorization: `Bearer ${writeKey}` }, data: body });
  expect(answer.ok(), `the snippet's event is taken: ${answer.status()}`);
  await page.waitForSelector("#sender-curl .badge.good");
  expect(await page.locator(".sender:has(#sender-curl)[open]").count() === 1, "the snippet stays open");
  expect((await page.locator("#sender-node .badge").textContent()).includes("waiting"), "the others still wait");
});

export const person = check(async (page, { project }) => {
  await page.goto(`${project}/persons`);
  const first = page.locator("#persons tbody a").first();
  const id = await first.textContent();
  await first.click();
  await page.waitForURL(/persons\?id=/);
  expect(await page.textContent("h1") === id, "the person's page is headed by the id");
  expect(await page.locator(".timeline .live-row").count() > 0, "the timeline has events");
  await page.locator(".timeline summary").first().click();
  expect(await page.locator(".timeline .live-row[open] .facts").isVisible(), "an event opens");
});

/** A printed page is the report without what can be pressed. */
export const print = check(async (page, { project, folder }) => {
  await page.goto(`${project}/overview`);
  await settled(page);
  await page.emulateMedia({ media: "print" });
  for (const gone of [".side", ".bar", ".actions"]) {
    expect(await page.locator(gone).first().isHidden(), `${gone} is not printed`);
  }
  expect(await page.locator(".chart-svg").first().isVisible(), "charts are printed");
  await page.screenshot({ path: `${folder}/overview-print.png`, fullPage: true });
}, { viewport: { width: 794, height: 1123 } });
