// A real Chromium, and a site of another origin than weir's for it to look at.
const http = require("node:http");
const { chromium } = require("playwright-core");

// Without these Chromium asks its maker's hosts for updates at every start.
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update"];

exports.launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: QUIET });

/** Serves what `answer(path)` gives, `{ type, body }`, on a free port. */
exports.site = async (answer) => {
  const server = http.createServer((request, response) => {
    const { type = "text/html", body } = answer(new URL(request.url, "http://localhost").pathname);
    response.setHeader("content-type", type);
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
};

/** Runs `main` to its end, which is an error when `main` fails or takes more than two minutes. */
exports.run = (main) => {
  const late = setTimeout(() => fail(new Error("not done after 120 s")), 120000);
  const fail = (error) => {
    console.error(error);
    process.exit(1);
  };
  main().then(() => clearTimeout(late), fail);
};
