// Sets the color scheme before the first paint. Not a module: a module runs after it.
"use strict";

(() => {
  const key = "txmicro-theme";
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage is switched off
    }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  apply(stored());
  globalThis.txmicroTheme = {
    get: () => root.dataset.theme || "system",
    set: (theme) => {
      apply(theme);
      try {
        localStorage.setItem(key, theme);
      } catch {
        // The choice holds until the page is closed.
      }
      document.dispatchEvent(new Event("theme"));
    },
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
})();
