// What links cannot do: charts, light and dark, shading, and pages of running jobs that stay current.
(() => {
  "use strict";
  // From one answer to the next question; longer and longer while nobody answers, up to the last of these.
  const REFRESH_MS = 1200, SLOWEST_MS = 60_000, GIVE_UP_MS = 30_000;
  const root = document.documentElement;

  const chosen = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (chosen()) root.dataset.theme = chosen();

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const config = () => {
    const text = colour("--text"), soft = colour("--soft"), line = colour("--line");
    return {
      aria: false, background: "transparent", view: { stroke: null }, font: "system-ui, sans-serif",
      axis: { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line },
      legend: { labelColor: text }, title: { color: text },
      range: { category: isDark()
        ? ["#63c7e6", "#f0a35a", "#9bd67f", "#d69be0", "#f08787", "#c9c36a", "#8fa8f0", "#b7b7b7"]
        : ["#1f6f8b", "#b4580a", "#3f7d2a", "#8a3f99", "#b3362b", "#77701a", "#3f55b5", "#666666"] },
    };
  };

  // A chart is drawn again only where its rows changed.
  const draw = async (scope, force = false) => {
    for (const place of scope.querySelectorAll(".chart")) {
      if (!window.vegaEmbed) { place.textContent = "The script that draws charts could not be loaded."; continue; }
      const spec = place.parentElement.querySelector("script[type='application/json']")?.textContent ?? "";
      if (!spec || (place.drawn === spec && !force)) continue;
      place.drawn = spec;
      try { await vegaEmbed(place, JSON.parse(spec), { actions: false, renderer: "svg", config: config() });
        // The picture has its name from what is around it.
        place.querySelector("svg")?.setAttribute("aria-hidden", "true");
      }
      catch (error) { place.textContent = "This chart cannot be drawn."; console.warn(error.message); }
    }
  };

  const shade = (mode) => {
    for (const one of document.querySelectorAll(".tokens")) one.className = `tokens by-${mode}`;
    for (const one of document.querySelectorAll("[data-shade]")) one.setAttribute("aria-pressed", String(one.dataset.shade === mode));
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.theme !== undefined) {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a browser that keeps nothing */ }
      draw(document, true);
    }
    if (button.dataset.shade) shade(button.dataset.shade);
  });

  // What a person is at stays: the focus, what is unfolded, what is typed.
  const isBusy = () => {
    const active = document.activeElement;
    return active && ["INPUT", "SELECT", "TEXTAREA"].includes(active.tagName);
  };
  const replaced = (fresh) => {
    const old = document.querySelector("main");
    const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id));
    const focus = document.activeElement?.id;
    for (const place of old.querySelectorAll(".chart")) {
      const same = fresh.querySelector(`#${CSS.escape(place.id)}`);
      const spec = same?.parentElement.querySelector("script[type='application/json']")?.textContent;
      if (same && spec === place.drawn) same.replaceWith(place);
    }
    old.replaceWith(fresh);
    for (const one of fresh.querySelectorAll("details")) if (open.has(one.id)) one.open = true;
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
    draw(fresh);
  };
  // Asks whether there is something new; the server answers 304, and nothing more, where there is not. Returns whether
  // to go on asking. One question at a time: the next one is asked when this one is answered.
  let asking = null;
  const refresh = () => asking ??= ask().finally(() => { asking = null; });
  const ask = async () => {
    const tag = document.querySelector("main").dataset.tag;
    const answer = await fetch(location.href, {
      headers: { Accept: "text/html", ...(tag ? { "If-None-Match": tag } : {}) },
      signal: AbortSignal.timeout(GIVE_UP_MS),
    });
    if (answer.status === 304) return true;
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = fresh.querySelector("main");
    if (!main) throw new Error("no page");
    if (isBusy()) return true;
    const shown = document.querySelector("main");
    shown.dataset.tag = main.dataset.tag;
    if (main.dataset.state !== shown.dataset.state) {
      document.getElementById("where").replaceWith(fresh.getElementById("where"));
      replaced(main);
    }
    return main.dataset.live === "yes";
  };
  const follow = async () => {
    let wait = REFRESH_MS;
    for (;;) {
      await new Promise((done) => setTimeout(done, wait));
      // Nobody looks: nothing is asked until somebody does again.
      if (document.hidden)
        await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      if (document.hidden || isBusy()) continue;
      try {
        if (!(await refresh())) return;
        wait = REFRESH_MS;
      } catch { wait = Math.min(2 * wait, SLOWEST_MS); /* the server is gone or ails; the page stays as it is */ }
    }
  };
  // What was done on the page is seen at once.
  document.addEventListener("agentrft:refresh", () => refresh().catch(() => { /* it is asked for again */ }));
  const begin = () => {
    draw(document);
    if (document.querySelector("main")?.dataset.live === "yes") follow();
  };
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", begin) : begin();
})();
