// Pages that wait for a ticket: opened once, they follow it to its end. The test that runs this makes
// the ticket go on when a file `SIGNALS.n` says that step n was seen.

import { writeFile } from "node:fs/promises";

import { expect, open, window } from "./browser.mjs";

const STEP = 30000;

/** Opens the plan's page and gives it, with what must never happen to it while it waits. `refused`: it
 *  is told that there is no stream for it. */
function following(steps, { refused = false } = {}) {
  return async (plan) => {
    const browser = await open();
    const { page, problems } = await window(browser, plan);
    const streams = [];
    let loaded = 0;
    if (refused) await page.route("**/events?*", (route) => route.fulfill({ status: 204 }));
    page.on("request", (request) => {
      if (request.resourceType() === "eventsource") streams.push(request.url());
      if (request.isNavigationRequest()) loaded += 1;
    });
    try {
      await page.goto(plan.path, { waitUntil: "domcontentloaded" });
      const before = loaded;
      await steps(page, (step) => writeFile(`${plan.signals}.${step}`, ""));
      expect(loaded === before, `the page was loaded ${loaded - before} times more`);
      expect(!refused || streams.length === 1, `it asks ${streams.length} times for what it is refused`);
      expect(streams.length >= 1 && streams.every((url) => url.includes("/events?")), `streams: ${streams}`);
    } catch (error) {
      problems.push(error.message, `the page: ${page.url()}`, await page.locator("main").innerText());
    }
    await browser.close();
    return problems;
  };
}

/** Waits until between so many of the nine shards are done, and gives how wide the bar is then. */
async function progress(page, least, most = least) {
  await page.waitForFunction(([least, most]) => {
    const shown = document.querySelector("#content")?.innerText.match(/(\d+) of 9 shards/);
    return shown && Number(shown[1]) >= least && Number(shown[1]) <= most;
  }, [least, most], { timeout: STEP });
  return parseFloat(await page.getAttribute(".progress rect", "width"));
}

async function asked(page, seen) {
  const some = await progress(page, 1, 5);
  await seen(1);
  const more = await progress(page, 6);
  expect(more > some, `the bar moved from ${some} to ${more} percent`);
  await seen(2);
  await page.waitForSelector("#answer td:has-text('300')", { timeout: STEP });
  expect(await page.locator(".progress, .skeleton").count() === 0, "nothing waits any more");
}

export const follows_asked = following(asked);
export const follows_alone = following(asked, { refused: true });

export const follows_ticket = following(async (page, seen) => {
  await progress(page, 1, 5);
  await seen(1);
  await progress(page, 6);
  await seen(2);
  await page.waitForSelector(".badge.good:has-text('succeeded')", { timeout: STEP });
  expect(await page.locator("a:has-text('Show the answer')").count() === 1, "it leads to its answer");
  expect(await page.locator("button:has-text('Cancel ticket')").count() === 0, "it cannot be cancelled any more");
});
