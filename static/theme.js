// Runs before the first paint: a remembered theme must not flash in the other one.
(function () {
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var theme = localStorage.getItem("weir-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (_) { /* storage may be forbidden; the system's preference then holds */ }
})();
