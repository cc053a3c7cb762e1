// Every page of the plan in both themes at the width of a phone and of a desk: it fits without
// sideways scrolling, axe-core finds nothing serious, and a screenshot is kept to be looked at.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { AXE, open, settled, window } from "./browser.mjs";

const WIDTHS = [390, 1440];
const THEMES = ["light", "dark"];
// Weights in KB after compression, as the design allows them.
const HTML_KB_MAX = 60;

export async function look(plan) {
  await mkdir(plan.folder, { recursive: true });
  const browser = await open();
  const problems = [];
  for (const width of WIDTHS) {
    for (const colorScheme of THEMES) {
      const viewport = { width, height: width < 600 ? 844 : 900 };
      const view = await window(browser, plan, { viewport, colorScheme });
      for (const { name, path, signedOut } of plan.pages) {
        if (signedOut) await view.context.clearCookies();
        const label = `${name} ${width} ${colorScheme}`;
        await view.page.goto(path, { waitUntil: "load" });
        await settled(view.page);
        problems.push(...(await judge(view.page, label)));
        await view.page.screenshot({ path: join(plan.folder, `${name}-${width}-${colorScheme}.png`), fullPage: true });
      }
      problems.push(...view.problems.map((problem) => `${width} ${colorScheme} ${problem}`));
      await view.context.close();
    }
  }
  await browser.close();
  return problems;
}

async function judge(page, label) {
  const problems = [];
  const measured = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    beyond: [...document.querySelectorAll("main *, header *")].filter((element) => {
      const box = element.getBoundingClientRect();
      return box.width > 0 && box.right > document.documentElement.clientWidth + 1
        && !element.closest(".table-wrap, .sr, pre, .tabs, svg");
    }).slice(0, 3).map((element) => element.outerHTML.slice(0, 80)),
    html: performance.getEntriesByType("navigation")[0].encodedBodySize,
    headings: document.querySelectorAll("h1").length,
  }));
  if (measured.wide > 0) problems.push(`${label}: ${measured.wide} px wider than the window: ${measured.beyond.join(" | ")}`);
  else if (measured.beyond.length) problems.push(`${label}: beyond the right edge: ${measured.beyond.join(" | ")}`);
  if (measured.html > HTML_KB_MAX * 1024) problems.push(`${label}: ${measured.html} bytes of HTML`);
  if (measured.headings !== 1) problems.push(`${label}: ${measured.headings} h1`);

  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, help, nodes }) => `${id} (${help}): ${nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" | ")}`);
  });
  problems.push(...found.map((violation) => `${label}: ${violation}`));
  return problems;
}
