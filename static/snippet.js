// weir.js: events from web pages, without cookies.
//
//   <script defer src="https://weir.example.com/weir.js" data-key="wk_…"></script>
//
// It is served without comments and indentation (src/http/snippet.rs), so every comment has lines of
// its own and no text goes over the end of a line. README.md says how it is used;
// tests/it/weir_js.rs drives it in Chromium.
(() => {
  const script = document.currentScript;
  const { key, host, store, pageviews } = script ? script.dataset : {};
  const calls = window.weir;
  if (!key) return console.warn("weir.js: data-key is missing");
  if (calls && calls.track) return;

  const address = (host || new URL(script.src).origin) + "/api/v1/events";
  // Events of a request, events that may wait, and the bytes a browser still sends for a closed page.
  const BATCH = 50, WAITING = 500, LATE_BYTES = 60000;
  const SEND_AFTER_MS = 500, RETRY_MS = 2000, RETRY_MS_MAX = 60000;

  // ---- storage: local, session or none. It may be forbidden or full; then this page remembers ----
  const prefix = "weir." + key + ".";
  const memory = {};
  let area;
  try {
    area = store == "none" ? null : window[(store || "local") + "Storage"];
    area.setItem(prefix, 1);
    area.removeItem(prefix);
  } catch (_) {
    area = null;
  }
  const get = (name) => (area ? area.getItem(prefix + name) : memory[name]);
  const put = (name, value) => {
    try {
      if (!area) memory[name] = value;
      else if (value) area.setItem(prefix + name, value);
      else area.removeItem(prefix + name);
    } catch (_) {}
  };
  const uuid = () =>
    // Pages without https have no randomUUID.
    crypto.randomUUID
      ? crypto.randomUUID()
      : "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
          (digit ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)))).toString(16));
  const refused = () =>
    get("off") || navigator.doNotTrack == "1" || window.doNotTrack == "1" || navigator.globalPrivacyControl;

  // ---- the queue: an event stays in it until weir has said that it is committed ----
  // Each tab has its own. Those that are found are taken over; if such a tab is still there, an event
  // is sent twice and counts once, since it has an id.
  const own = "queue." + uuid();
  const beaconed = new WeakSet();
  let queue = [], sending = false, failures = 0, timer = 0, wake = 0, rest = 0;
  for (const name of Object.keys(area || {}))
    if (name.startsWith(prefix + "queue."))
      try {
        queue.push(...JSON.parse(area.getItem(name)));
      } catch (_) {
      } finally {
        area.removeItem(name);
      }
  const save = () => {
    queue = queue.slice(-WAITING);
    put(own, queue.length && JSON.stringify(queue));
  };
  const forget = () => {
    queue = [];
    save();
  };
  const body = (batch) => JSON.stringify({ key, sent_at: Date.now(), batch });
  const later = (ms) => {
    const at = Math.max(Date.now() + ms, rest);
    if (timer && wake <= at) return;
    clearTimeout(timer);
    wake = at;
    timer = setTimeout(flush, at - Date.now());
  };
  const flush = () => {
    clearTimeout(timer);
    timer = 0;
    if (refused()) return forget();
    if (sending || !queue.length || !navigator.onLine) return;
    const batch = queue.slice(0, BATCH), text = body(batch);
    const again = (seconds) => {
      const ms = Math.min(RETRY_MS * 2 ** failures++, RETRY_MS_MAX) * (0.5 + Math.random());
      rest = Date.now() + Math.max(ms, seconds * 1000);
      later(0);
    };
    sending = true;
    // A text without headers of its own: no browser asks the server first whether it may.
    fetch(address, { method: "POST", body: text, keepalive: text.length < LATE_BYTES, credentials: "omit" })
      .then(({ ok, status, headers }) => {
        sending = false;
        if (status > 499 || status == 408 || status == 429) return again(+headers.get("retry-after"));
        if (!ok) console.warn("weir refused events: " + status);
        failures = rest = 0;
        queue = queue.filter((event) => !batch.includes(event));
        save();
        if (queue.length) later(0);
      })
      .catch(() => {
        sending = false;
        again(0);
      });
  };
  // What a closing page sends may be lost, so the events stay for the next page to send again.
  const leave = () => {
    const late = queue.filter((event) => !beaconed.has(event));
    while (late.length && navigator.onLine && !refused()) {
      const batch = late.splice(0, BATCH);
      if (navigator.sendBeacon(address, body(batch))) batch.forEach((event) => beaconed.add(event));
    }
  };

  // ---- events ----
  const anonymous = () => {
    const id = get("anonymous") || uuid();
    put("anonymous", id);
    return id;
  };
  const here = () => location.pathname + location.search;
  let seen, referrer = document.referrer;
  const surroundings = () => {
    const found = {
      $url: location.href.split("#")[0],
      $path: location.pathname,
      $title: document.title,
      $referrer: referrer || undefined,
      $locale: navigator.language,
      $timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      $screen_width: screen.width,
      $screen_height: screen.height,
      $library: "weir.js",
    };
    new URLSearchParams(location.search).forEach((value, name) => {
      if (/^utm_\w+$/.test(name)) found["$" + name] = value;
    });
    return found;
  };
  const track = (event, properties) => {
    if (refused()) return;
    const user = get("user"), id = anonymous();
    queue.push({
      id: uuid(),
      event,
      distinct_id: user || id,
      anonymous_id: user ? id : undefined,
      timestamp: new Date().toISOString(),
      properties: { ...surroundings(), ...properties },
    });
    save();
    later(SEND_AFTER_MS);
  };
  const page = (properties) => {
    seen = here();
    track("$pageview", properties);
    referrer = location.href.split("#")[0];
  };
  const weir = (window.weir = {
    track,
    page,
    flush,
    identify(user, traits) {
      if (refused() || (get("user") == user && !traits)) return;
      put("user", user);
      track("$identify", traits);
    },
    reset() {
      put("user");
      put("anonymous");
    },
    optOut() {
      forget();
      weir.reset();
      put("off", 1);
    },
    optIn() {
      put("off");
    },
    push(call) {
      weir[call[0]](...call.slice(1));
    },
  });
  if (calls) calls.forEach(weir.push);

  // ---- page views: of loads, of single-page apps, of pages that come back ----
  const arrived = () => here() != seen && page();
  if (pageviews != "off") {
    const { pushState } = history;
    history.pushState = function () {
      pushState.apply(this, arguments);
      arrived();
    };
    addEventListener("popstate", arrived);
    addEventListener("pageshow", (event) => event.persisted && page());
    // A page that is only prepared was not looked at.
    if (document.prerendering) document.addEventListener("prerenderingchange", arrived);
    else arrived();
  }
  addEventListener("online", flush);
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : flush()));
  if (queue.length) later(SEND_AFTER_MS);
})();
