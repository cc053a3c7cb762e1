// Searchable menus in place of plain ones: <select data-pick="event"> and the like get a button that
// opens a list with counts, fetched when it is first wanted; <input data-pick="value"> suggests values
// while it is typed into. The plain control stays in the form and holds what is sent.
//
//   data-pick        event, property, breakdown, or value
//   data-pick-of     of a value: the name of the control that holds the property
//   data-pick-from   on a form: the address under which .../menu and .../values are
(function () {
  "use strict";
  var SHOWN_MAX = 100;
  var lists = {}, panel = null;

  function fetchJson(url) {
    return lists[url] || (lists[url] = fetch(url, { headers: { Accept: "application/json" } }).then(function (response) {
      if (!response.ok) throw new Error("status " + response.status);
      return response.json();
    }).catch(function (error) { delete lists[url]; throw error; }));
  }
  function from(control) { return control.form.dataset.pickFrom; }
  function element(name, attributes, text) {
    var made = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function count(number) { return number.toLocaleString("en-US"); }

  // ---- what there is to choose -----------------------------------------------------------------

  function fixed(control) {
    var none = control.dataset.none || "";
    if (control.dataset.pick === "event") return [{ value: "", name: none }];
    if (control.dataset.pick === "breakdown") return [{ value: "", name: none }, { value: "$event", name: "event", types: "the event's name" }];
    return [];
  }
  function choices(control) {
    var kind = control.dataset.pick;
    if (kind === "value") {
      var property = control.form.elements[control.dataset.pickOf];
      if (!property || !property.value) return Promise.resolve([]);
      return fetchJson(from(control) + "/values?property=" + encodeURIComponent(property.value)).then(function (found) {
        return found.values.map(function (one) { return { value: one.value, name: one.value, count: one.count }; });
      });
    }
    return fetchJson(from(control) + "/menu").then(function (menu) {
      var names = kind === "event" ? menu.events : menu.properties;
      var all = fixed(control).concat(names.map(function (one) {
        return { value: one.name, name: one.name, count: one.count, types: one.types, seen: one.seen };
      }));
      all.rarer = kind === "event" ? menu.more_events : menu.more_properties;
      return all;
    });
  }
  // What begins with the words comes first, then what holds them, each the most frequent first.
  function matching(all, typed) {
    var words = typed.trim().toLowerCase();
    if (!words) return all;
    var ranked = all.map(function (one, at) {
      return { one: one, at: at, place: one.name.toLowerCase().indexOf(words) };
    }).filter(function (entry) { return entry.place >= 0; });
    ranked.sort(function (a, b) { return (a.place > 0) - (b.place > 0) || a.at - b.at; });
    return ranked.map(function (entry) { return entry.one; });
  }

  // ---- the list ----------------------------------------------------------------------------------

  function open(control, field, holder, typed) {
    if (panel && panel.control === control) return;
    close();
    var own = field === null;
    var box = element("div", { "class": "pick-panel" });
    if (own) {
      field = element("input", { type: "text", "class": "pick-search", role: "combobox", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", "aria-label": "Search: " + control.getAttribute("aria-label"), placeholder: "Search" });
      field.value = typed || "";
      box.appendChild(field);
    }
    var list = element("ul", { role: "listbox", id: "pick-list", "aria-label": control.getAttribute("aria-label") });
    var hint = element("p", { "class": "pick-hint", role: "status" }, "Loading");
    box.append(list, hint);
    field.setAttribute("aria-expanded", "true");
    field.setAttribute("aria-controls", "pick-list");
    holder.appendChild(box);
    panel = { control: control, field: field, own: own, box: box, list: list, hint: hint, holder: holder, all: [], shown: [], at: -1 };
    place(box);
    if (own) { holder.querySelector(".pick").setAttribute("aria-expanded", "true"); field.focus(); }
    var mine = panel;
    choices(control).then(function (all) {
      if (panel !== mine) return;
      panel.all = all;
      panel.loaded = true;
      draw();
      if (panel.wanted) take(panel.at);
    }).catch(function () {
      if (panel === mine) hint.textContent = "The list cannot be loaded now. What you type is taken as it is.";
    });
  }
  // Kept inside the window, whatever side the control is at.
  function place(box) {
    box.style.left = "0";
    var right = box.getBoundingClientRect().right, edge = document.documentElement.clientWidth - 8;
    if (right > edge) box.style.left = (edge - right) + "px";
  }
  function close(focus) {
    if (!panel) return;
    var was = panel;
    panel = null;
    was.box.remove();
    was.field.removeAttribute("aria-activedescendant");
    was.field.setAttribute("aria-expanded", "false");
    var button = was.holder.querySelector(".pick");
    if (button) {
      button.setAttribute("aria-expanded", "false");
      if (focus) button.focus();
    }
  }
  function draw() {
    var typed = panel.own || panel.typed ? panel.field.value : "";
    panel.shown = matching(panel.all, typed).slice(0, SHOWN_MAX);
    panel.list.textContent = "";
    panel.shown.forEach(function (one, at) {
      var row = element("li", { role: "option", id: "pick-" + at, "aria-selected": "false" });
      row.appendChild(element("span", one.value ? {} : { "class": "muted" }, one.name));
      if (one.types) row.appendChild(element("small", {}, one.types));
      if (one.count !== undefined) row.appendChild(element("b", {}, count(one.count)));
      if (one.value === panel.control.value) row.classList.add("chosen");
      panel.list.appendChild(row);
    });
    var more = matching(panel.all, typed).length - panel.shown.length;
    panel.about = "";
    if (more > 0) panel.about = "And " + count(more) + " more: type to search.";
    else if (!panel.all.length) panel.about = panel.control.dataset.pick === "value" ? "" : "Nothing has been sent yet.";
    else if (panel.all.rarer && !panel.shown.length) panel.about = "Nothing matches among the most frequent names. Ask for rarer ones as JSON.";
    else if (!panel.shown.length) panel.about = "Nothing matches.";
    say(panel.about);
    var chosen = panel.shown.findIndex(function (one) { return one.value === panel.control.value; });
    move(panel.own ? (typed ? 0 : Math.max(chosen, 0)) : -1);
  }
  // What is known of the row that the keyboard or the pointer is at, before what is said of the list.
  function tell(parts) {
    say(parts.concat(panel.about).filter(Boolean).join(" · "));
  }
  function say(text) {
    panel.hint.textContent = text;
    panel.hint.hidden = !text;
  }
  function move(at) {
    var rows = panel.list.children;
    if (rows[panel.at]) rows[panel.at].setAttribute("aria-selected", "false");
    panel.at = rows.length ? Math.max(-1, Math.min(at, rows.length - 1)) : -1;
    if (panel.at < 0) { panel.field.removeAttribute("aria-activedescendant"); return; }
    var row = rows[panel.at];
    row.setAttribute("aria-selected", "true");
    panel.field.setAttribute("aria-activedescendant", row.id);
    row.scrollIntoView({ block: "nearest" });
    examples(panel.shown[panel.at]);
  }
  // When it was last seen, and the most frequent values of a property.
  function examples(one) {
    var kind = panel.control.dataset.pick, mine = panel, seen = one.seen ? "Last seen " + one.seen : "";
    clearTimeout(panel.timer);
    tell([seen]);
    if ((kind !== "property" && kind !== "breakdown") || !one.value || one.value === "$event") return;
    panel.timer = setTimeout(function () {
      if (panel !== mine) return;
      fetchJson(from(mine.control) + "/values?property=" + encodeURIComponent(one.value)).then(function (found) {
        if (panel !== mine || panel.shown[panel.at] !== one) return;
        var names = found.values.slice(0, 6).map(function (value) { return value.value; });
        tell([names.length ? "For example " + names.join(", ") : "", seen]);
      }).catch(function () { /* then without examples */ });
    }, 200);
  }
  function take(at) {
    var one = panel.shown[at], control = panel.control;
    if (!one) return;
    close(true);
    if (control.value === one.value && control.dataset.pick !== "value") return;
    if (control.tagName === "SELECT" && !Array.prototype.some.call(control.options, function (option) { return option.value === one.value; })) {
      control.add(new Option(one.name, one.value));
    }
    control.value = one.value;
    label(control);
    control.dispatchEvent(new Event("change", { bubbles: true }));
  }

  // ---- the button in place of a plain menu ---------------------------------------------------------

  function shownText(control) {
    if (control.tagName === "SELECT") {
      var option = control.options[control.selectedIndex];
      return option && option.value ? option.value === "$event" ? "event" : option.value : option ? option.textContent : "";
    }
    return control.value || control.placeholder;
  }
  function label(control) {
    var button = control.parentNode.querySelector(".pick");
    if (!button) return;
    button.firstChild.textContent = shownText(control);
    button.setAttribute("aria-label", control.getAttribute("aria-label") + ": " + shownText(control));
    button.classList.toggle("none", !control.value);
  }
  function enhance(control) {
    if (control.closest(".pick-holder")) return;
    var holder = element("span", { "class": "pick-holder" });
    control.before(holder);
    holder.appendChild(control);
    if (control.dataset.pick === "value") {
      control.setAttribute("role", "combobox");
      control.setAttribute("aria-expanded", "false");
      control.setAttribute("aria-autocomplete", "list");
      control.setAttribute("autocomplete", "off");
      return;
    }
    var button = element("button", { type: "button", "class": "pick", "aria-haspopup": "listbox", "aria-expanded": "false" });
    button.append(element("span"), element("i"));
    if (control.getAttribute("aria-invalid")) button.setAttribute("aria-invalid", "true");
    control.hidden = true;
    holder.appendChild(button);
    label(control);
  }
  function enhanceAll() {
    Array.prototype.forEach.call(document.querySelectorAll("form[data-pick-from] [data-pick], [data-pick][form]"), enhance);
  }

  function controlOf(button) { return button.parentNode.querySelector("[data-pick]"); }

  document.addEventListener("click", function (event) {
    var target = event.target;
    if (!(target instanceof Element)) return;
    var row = target.closest(".pick-panel [role=option]");
    if (row) return take(Array.prototype.indexOf.call(panel.list.children, row));
    var button = target.closest(".pick");
    if (button) {
      var control = controlOf(button);
      if (panel && panel.control === control) close(true); else open(control, null, button.parentNode);
      return;
    }
    if (panel && !panel.holder.contains(target)) close();
  });
  // A press on a row must not take the focus away from the field before the click arrives.
  document.addEventListener("mousedown", function (event) {
    if (event.target instanceof Element && event.target.closest(".pick-panel ul")) event.preventDefault();
  });
  document.addEventListener("pointermove", function (event) {
    var row = event.target instanceof Element && event.target.closest(".pick-panel [role=option]");
    if (!row || !panel) return;
    var at = Array.prototype.indexOf.call(panel.list.children, row);
    if (at !== panel.at) move(at);
  });
  document.addEventListener("input", function (event) {
    var field = event.target;
    if (panel && field === panel.field) { panel.typed = true; draw(); }
    else if (field.matches && field.matches("input[data-pick=value]")) {
      open(field, field, field.parentNode);
      panel.typed = true;
    }
  });
  document.addEventListener("focusin", function (event) {
    var field = event.target;
    if (field.matches && field.matches("input[data-pick=value]") && !field.value) open(field, field, field.parentNode);
    else if (panel && !panel.holder.contains(field)) close();
  });
  document.addEventListener("keydown", function (event) {
    var target = event.target;
    if (!(target instanceof Element)) return;
    if (!panel || target !== panel.field) {
      if (target.matches(".pick") && !event.ctrlKey && !event.metaKey && !event.altKey) {
        // A letter begins the search at once.
        var letter = event.key.length === 1 && event.key !== " ";
        if (event.key === "ArrowDown" || event.key === "ArrowUp" || letter) {
          event.preventDefault();
          open(controlOf(target), null, target.parentNode, letter ? event.key : "");
        }
      } else if (target.matches("input[data-pick=value]") && event.key === "ArrowDown") {
        event.preventDefault();
        open(target, target, target.parentNode);
      }
      return;
    }
    var last = panel.shown.length - 1;
    if (event.key === "ArrowDown") move(panel.at >= last ? 0 : panel.at + 1);
    else if (event.key === "ArrowUp") move(panel.at <= 0 ? last : panel.at - 1);
    else if (event.key === "PageDown") move(Math.min(last, panel.at + 8));
    else if (event.key === "PageUp") move(Math.max(0, panel.at - 8));
    else if (event.key === "Enter") {
      if (panel.at >= 0) take(panel.at);
      // Typed faster than the list came: what is first then is taken.
      else if (panel.own) panel.wanted = !panel.loaded;
      else { close(); return; }
    } else if (event.key === "Escape") { event.stopPropagation(); close(true); }
    else if (event.key === "Tab") { close(panel.own); return; }
    else return;
    event.preventDefault();
  }, true);

  window.addEventListener("resize", function () { if (panel) place(panel.box); });
  document.addEventListener("weir:page", function () { panel = null; enhanceAll(); });
  enhanceAll();
})();
