// node run.mjs PLAN.json [NAME…]: runs the named checks (when none is named, all that need nobody
// beside them) against the server of the plan; prints a line for each and ends with an error when one fails.

import { readFile } from "node:fs/promises";

import * as acts from "./act.mjs";
import * as follow from "./follow.mjs";
import { look } from "./look.mjs";

const [planFile, ...names] = process.argv.slice(2);
const plan = JSON.parse(await readFile(planFile, "utf8"));
const checks = { look, ...acts, ...follow };

let failed = 0;
for (const name of names.length ? names : Object.keys({ look, ...acts })) {
  const began = Date.now();
  const problems = await checks[name](plan).catch((error) => [error.stack ?? String(error)]);
  console.log(`${problems.length ? "FAILED" : "ok"} ${name} (${Date.now() - began} ms)`);
  for (const problem of problems) console.log(`  ${problem}`);
  failed += problems.length;
}
process.exitCode = failed ? 1 : 0;
