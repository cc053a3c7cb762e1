// A real Chromium, and what holds for every page it opens: nothing in the console, no breach of the
// content security policy, no request to another host.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const packages = process.env.WEIR_TEST_PACKAGES;
if (!packages) throw new Error("WEIR_TEST_PACKAGES names no folder; scripts/packages prints it");
const require = createRequire(join(packages, "package.json"));
const { chromium } = require("playwright-core");
/** Evaluated in a page by the debugger: a script element would be against the page's own policy. */
export const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// Without these Chromium asks its maker's hosts for updates at every start.
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb"];

export async function open() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: QUIET });
}

/** A signed-in window; `problems` gathers what no page may ever cause. */
export async function window(browser, plan, options = {}) {
  const context = await browser.newContext({
    baseURL: plan.url, viewport: { width: 1440, height: 900 }, reducedMotion: "reduce", ...options,
  });
  const problems = [];
  const page = await context.newPage();
  watch(page, plan, problems);
  if (plan.email && options.signedIn !== false) await logIn(page, plan);
  return { context, page, problems };
}

function watch(page, plan, problems) {
  const origin = new URL(plan.url).origin;
  const where = () => new URL(page.url()).pathname;
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    // An error page is an answer with a status; Chromium writes that into the console as well.
    if (/Failed to load resource: the server responded with a status of 4/.test(message.text())) return;
    problems.push(`${where()}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`${where()}: script: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith("data:")) problems.push(`${where()}: foreign request: ${url}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 500) problems.push(`${where()}: ${response.status()} from ${response.url()}`);
  });
}

async function logIn(page, plan) {
  await page.goto("/login");
  await page.fill("[name=email]", plan.email);
  await page.fill("[name=password]", plan.password);
  await Promise.all([page.waitForURL((url) => url.pathname !== "/login"), page.click("button.primary")]);
}

/** Nothing on the page still waits for an answer. */
export async function settled(page) {
  await page.waitForFunction(() => !document.querySelector(".skeleton, [data-answer][aria-busy]"), null, { timeout: 30000 });
}

/** Fails with a sentence. */
export function expect(condition, sentence) {
  if (!condition) throw new Error(sentence);
}
