// Light or dark: the system's choice until the user makes one. Runs before the page is drawn, so it is no module.
(() => {
  "use strict";
  const KEY = "theme";
  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      const theme = localStorage.getItem(KEY);
      return theme === "light" || theme === "dark" ? theme : null;
    } catch {
      return null; // storage is switched off: the choice lasts as long as the page
    }
  };
  const shown = () => root.dataset.theme ?? (systemDark.matches ? "dark" : "light");
  const first = chosen();
  if (first) root.dataset.theme = first;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const tell = () => {
      const other = shown() === "dark" ? "light" : "dark";
      button.textContent = other === "dark" ? "Dark" : "Light";
      button.setAttribute("aria-label", `Switch to the ${other} theme`);
      document.dispatchEvent(new Event("themechange"));
    };
    button.addEventListener("click", () => {
      const theme = shown() === "dark" ? "light" : "dark";
      root.dataset.theme = theme;
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // as above
      }
      tell();
    });
    systemDark.addEventListener("change", tell);
    tell();
  });
})();
