// What pages do beyond links and forms. Everything here is an addition: without it pages still
// read, forms still send, and charts carry their values in <title> and in the table below them.
(function () {
  "use strict";
  var root = document.documentElement;

  function each(selector, action, within) {
    Array.prototype.forEach.call((within || document).querySelectorAll(selector), action);
  }

  // ---- theme: system, light, dark ---------------------------------------------------------

  var THEMES = ["system", "light", "dark"];
  function theme() { return root.dataset.theme || "system"; }
  function nameTheme() {
    each("[data-theme-name]", function (label) { label.textContent = "Theme: " + theme(); });
  }
  function switchTheme() {
    var next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
    try {
      if (next === "system") localStorage.removeItem("weir-theme");
      else localStorage.setItem("weir-theme", next);
    } catch (_) { /* then it holds for this page only */ }
    nameTheme();
  }

  // ---- copying ------------------------------------------------------------------------------

  function copy(button) {
    var said = button.textContent;
    function done(word) {
      button.textContent = word;
      setTimeout(function () { button.textContent = said; }, 1500);
    }
    if (navigator.clipboard) {
      navigator.clipboard.writeText(button.dataset.copy).then(
        function () { done("Copied"); }, function () { done("Not allowed"); });
      return;
    }
    // Without https there is no clipboard interface.
    var area = document.createElement("textarea");
    area.value = button.dataset.copy;
    area.className = "sr";
    document.body.appendChild(area);
    area.select();
    done(document.execCommand("copy") ? "Copied" : "Not allowed");
    area.remove();
    button.focus();
  }

  // ---- menus --------------------------------------------------------------------------------

  function closeMenus(except) {
    each("details.menu[open]", function (menu) {
      if (menu !== except && !menu.contains(except)) menu.open = false;
    });
  }
  document.addEventListener("toggle", function (event) {
    if (event.target.open && event.target.matches("details.menu")) closeMenus(event.target);
  }, true);
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") {
      var open = document.querySelector("details.menu[open]");
      if (open) { open.open = false; open.querySelector("summary").focus(); }
      var nav = document.getElementById("nav-open");
      if (nav && nav.checked) { nav.checked = false; nav.focus(); }
      hideTip();
    }
  });
  document.addEventListener("click", function (event) {
    var target = event.target;
    if (!(target instanceof Element)) return;
    var menu = target.closest("details.menu");
    closeMenus(menu);
    var button = target.closest("button");
    if (!button) return;
    if (button.dataset.copy !== undefined) copy(button);
    if (button.hasAttribute("data-theme-switch")) switchTheme();
    if (button.hasAttribute("data-pause")) pause(button);
  });

  // ---- parts that bring themselves up to date -----------------------------------------------
  // <div id="x" data-refresh="2">: every 2 s the page is fetched again and the element of that id
  // takes the fresh one's place, until the fresh one no longer asks for it. Open rows stay open.
  // data-events="/api/…" says when to fetch instead, for as long as that stream can be had.

  var paused = false, failures = 0, timer = 0, fetching = false, again = false;
  function pause(button) {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Resume" : "Pause";
    if (!paused) refresh();
  }
  var source = null, deaf = "";
  // Whether a stream of events tells when to fetch this part.
  function follow(part) {
    var href = part && part.dataset.events || "", ticket = href.split("?")[0];
    if (source && source.ticket !== ticket) {
      source.close();
      source = null;
    }
    // A page that nobody sees gives its connection away: a browser has six for one host.
    if (!ticket || ticket === deaf || document.hidden || !window.EventSource) return false;
    if (source) return true;
    source = new EventSource(href);
    source.ticket = ticket;
    source.addEventListener("ticket", function (event) {
      // After its end there is nothing more to hear; what is left is to fetch it.
      if (!JSON.parse(event.data).links.events) stop();
      refresh();
    });
    // After 25 s it comes back by itself; when it is refused it does not.
    source.addEventListener("error", function () {
      if (source && source.readyState === EventSource.CLOSED) { stop(); plan(); }
    });
    function stop() { deaf = ticket; follow(null); }
    return true;
  }
  function plan() {
    clearTimeout(timer);
    var part = document.querySelector("[data-refresh]"), follows = follow(part);
    if (!part || follows && !failures) return;
    var seconds = Number(part.dataset.refresh) || 2;
    timer = setTimeout(refresh, seconds * 1000 * Math.pow(2, Math.min(failures, 5)));
  }
  function refresh() {
    clearTimeout(timer);
    if (paused) return;
    if (document.hidden) return plan();
    // One at a time: an answer must not be overtaken by the state before it.
    if (fetching) { again = true; return; }
    fetching = true;
    var mine = going, part = document.querySelector("[data-refresh]");
    fetch(part && part.dataset.refreshHref || location.href, { headers: { "X-Requested-With": "weir" } }).then(function (response) {
      if (response.redirected && new URL(response.url).pathname !== location.pathname) {
        location.href = response.url;
        return null;
      }
      if (response.status >= 500) throw new Error("status " + response.status);
      return response.text();
    }).then(function (text) {
      if (text === null || mine !== going) return;
      failures = 0;
      swap(new DOMParser().parseFromString(text, "text/html"));
    }).catch(function () { failures += 1; }).then(function () {
      fetching = false;
      var late = again;
      again = false;
      if (mine !== going) return;
      if (late) refresh(); else plan();
    });
  }
  function swap(fresh) {
    if (paused) return;
    each("[data-refresh]", function (part) {
      var next = fresh.getElementById(part.id);
      if (!next || part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
      var focus = part.contains(document.activeElement) ? document.activeElement.closest("[id]") : null;
      each("details[open][id]", function (row) {
        var same = next.querySelector("#" + CSS.escape(row.id));
        if (same) same.open = true;
      }, part);
      hideTip();
      part.replaceWith(document.adoptNode(next));
      if (focus) {
        var again = document.getElementById(focus.id);
        if (again) (again.querySelector("summary") || again).focus();
      }
      needs();
    });
    var end = document.querySelector(".bar-end span"), freshEnd = fresh.querySelector(".bar-end span");
    if (end && freshEnd) end.replaceWith(document.adoptNode(freshEnd));
  }
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) follow(null);
    else if (document.querySelector("[data-refresh]")) refresh();
  });

  // ---- forms --------------------------------------------------------------------------------

  document.addEventListener("change", function (event) {
    var field = event.target;
    if (!(field instanceof Element)) return;
    needs();
    if (field.matches("select, input") && field.form
        && field.form.hasAttribute("data-autosubmit") && !waits(field) && field.form.checkValidity()) {
      field.form.requestSubmit();
    }
  });
  // A custom range is sent when both days are there, not when "custom" is chosen.
  function waits(field) {
    var range = field.form.elements.range;
    return Boolean(range && range.value === "custom" && ["range", "from", "to"].indexOf(field.name) >= 0
      && !(field.name !== "range" && field.form.elements.from.value && field.form.elements.to.value));
  }
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (form.method !== "get") return;
    if (form.hasAttribute("data-trim")) {
      // Empty fields would only make the address longer.
      each("input, select", function (field) { if (!field.value && field.name) field.disabled = true; }, form);
    }
    if (form.hasAttribute("data-soft")) {
      event.preventDefault();
      var query = new URLSearchParams(new FormData(form, event.submitter));
      go(form.action.split("?")[0] + "?" + query, true, event.submitter);
    } else dim();
    setTimeout(function () { each("input, select, textarea", function (f) { f.disabled = false; }, form); needs(); }, 0);
  });
  window.addEventListener("pageshow", undim);
  function dim() {
    root.classList.add("loading");
    each("[data-answer]", function (answer) { answer.classList.add("dim"); answer.setAttribute("aria-busy", "true"); });
  }
  function undim() {
    root.classList.remove("loading");
    each("[data-answer]", function (answer) { answer.classList.remove("dim"); answer.removeAttribute("aria-busy"); });
  }

  // ---- the answer follows the edit ------------------------------------------------------------
  // A form or link with data-soft takes the next page's bar and content into this one: the answer
  // that is there stays, dimmed, until the new one is, and neither focus nor scrolling is lost.

  var going = 0, here = location.pathname + location.search;
  function go(url, push, submitter) {
    var mine = ++going, focus = placeOf(submitter || document.activeElement);
    clearTimeout(timer);
    follow(null);
    dim();
    fetch(url, { headers: { "X-Requested-With": "weir" } }).then(function (response) {
      var to = new URL(response.url);
      if (!(response.headers.get("content-type") || "").startsWith("text/html") || to.pathname !== new URL(url, location.href).pathname) {
        throw new Error("not this page");
      }
      return response.text().then(function (text) { return { to: to, text: text }; });
    }).then(function (got) {
      if (mine !== going) return;
      var fresh = new DOMParser().parseFromString(got.text, "text/html");
      if (!fresh.getElementById("content")) throw new Error("no page");
      hideTip();
      failures = 0;
      each(".bar-in, #content", function (part) {
        var next = fresh.querySelector(part.id ? "#content" : ".bar-in");
        if (next) part.replaceWith(document.adoptNode(next));
      });
      document.title = fresh.title;
      here = got.to.pathname + got.to.search;
      if (push) history.pushState(null, "", here);
      root.classList.remove("loading");
      needs();
      document.dispatchEvent(new Event("weir:page"));
      refocus(focus);
      plan();
    }).catch(function () { if (mine === going) location.href = url; });
  }
  window.addEventListener("popstate", function () {
    if (location.pathname + location.search !== here) go(location.href, false);
  });
  document.addEventListener("click", function (event) {
    var link = event.target instanceof Element && event.target.closest("a[data-soft]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(link.href, true);
  });
  // Where the focus is, in words that the next page understands too.
  function placeOf(focused) {
    if (!focused || focused === document.body) return null;
    var holder = focused.closest(".pick-holder");
    var control = holder ? holder.querySelector("[name]") : focused;
    if (control.name === "do" && control.value.indexOf("add-") === 0) return { added: control.value };
    return { name: control.name, value: control.name === "do" ? control.value : null, text: control.tagName === "A" ? control.textContent : null };
  }
  function refocus(place) {
    if (!place) return;
    var found = null;
    if (place.added) {
      var empty = document.querySelectorAll(".pick.none");
      found = empty[empty.length - 1];
    } else if (place.text) {
      each("a[data-soft]", function (link) { if (link.textContent === place.text) found = found || link; });
    } else if (place.name) {
      found = document.querySelector("[name=" + JSON.stringify(place.name) + "]" + (place.value ? "[value=" + JSON.stringify(place.value) + "]" : ""));
      var holder = found && found.closest(".pick-holder");
      if (holder && found.hidden) found = holder.querySelector(".pick");
    }
    if (found) found.focus({ preventScroll: true });
  }
  // A part that only some choices of a field need: data-needs="s0.measure=sum avg", with the form
  // around it or named by data-needs-form.
  function needs() {
    each("[data-needs]", function (part) {
      var form = part.dataset.needsForm ? document.getElementById(part.dataset.needsForm) : part.closest("form");
      var rule = part.dataset.needs.split("=");
      var field = form && form.elements[rule[0]];
      if (field) show(part, rule[1].split(" ").indexOf(field.value) >= 0);
    });
    each("[data-needs-not-empty]", function (part) {
      var field = part.closest("form").elements[part.dataset.needsNotEmpty];
      if (field) show(part, Boolean(field.value));
    });
  }
  // What is hidden is not sent either.
  function show(part, shown) {
    part.hidden = !shown;
    if (part.matches("input")) part.disabled = !shown;
    each("input, select", function (field) { field.disabled = !shown; }, part);
  }

  // ---- charts: one line across the series and a small table of values ------------------------

  var tip = null, cursor = null, shown = null;
  function hideTip() {
    if (tip) tip.remove();
    if (cursor) cursor.remove();
    tip = cursor = shown = null;
  }
  function text(hit) {
    var title = hit.querySelector("title");
    if (title) { hit.dataset.text = title.textContent; title.remove(); }
    return hit.dataset.text || "";
  }
  function showTip(hit) {
    if (hit === shown) return;
    hideTip();
    shown = hit;
    var svg = hit.closest(".chart-svg"), chart = hit.closest(".chart");
    var lines = text(hit).split("\n"), keys = (svg.dataset.keys || "").split(" ");
    tip = document.createElement("div");
    tip.className = "chart-tip";
    tip.setAttribute("role", "status");
    var head = document.createElement("b");
    head.textContent = lines[0];
    tip.appendChild(head);
    lines.slice(1).forEach(function (line, index) {
      var at = line.lastIndexOf(": "), row = document.createElement("div");
      var key = document.createElement("i"), name = document.createElement("span"), value = document.createElement("span");
      key.className = "key " + (keys[index] || "");
      name.textContent = line.slice(0, at);
      value.textContent = line.slice(at + 2);
      row.append(key, name, value);
      tip.appendChild(row);
    });
    chart.appendChild(tip);
    var box = svg.getBoundingClientRect(), outer = chart.getBoundingClientRect();
    var x = box.left - outer.left + box.width * Number(hit.dataset.x) / 100;
    var left = x + 12;
    if (left + tip.offsetWidth > outer.width) left = Math.max(0, x - 12 - tip.offsetWidth);
    tip.style.left = left + "px";
    tip.style.top = "8px";
    cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("x1", hit.dataset.x + "%");
    cursor.setAttribute("x2", hit.dataset.x + "%");
    cursor.setAttribute("y1", svg.dataset.top);
    cursor.setAttribute("y2", svg.dataset.bottom);
    svg.appendChild(cursor);
  }
  document.addEventListener("pointerover", function (event) {
    var hit = event.target instanceof Element && event.target.closest(".chart-svg .hit");
    if (hit) showTip(hit); else hideTip();
  });
  document.addEventListener("keydown", function (event) {
    var svg = event.target instanceof Element && event.target.closest(".chart-svg");
    if (!svg || ["ArrowLeft", "ArrowRight", "Home", "End"].indexOf(event.key) < 0) return;
    var hits = svg.querySelectorAll(".hit");
    if (!hits.length) return;
    event.preventDefault();
    var now = Array.prototype.indexOf.call(hits, shown);
    var next = event.key === "Home" ? 0 : event.key === "End" ? hits.length - 1
      : event.key === "ArrowLeft" ? (now < 0 ? hits.length - 1 : Math.max(0, now - 1))
      : Math.min(hits.length - 1, now + 1);
    showTip(hits[next]);
  });
  document.addEventListener("focusout", function (event) {
    if (event.target instanceof Element && event.target.closest(".chart-svg")) hideTip();
  });

  nameTheme();
  needs();
  plan();
})();
