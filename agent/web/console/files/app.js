// The shell of the console: navigation, the banner of a lost device, and the page that the address names.
import { ActDialog, logout } from "./acts.js";
import { html, render, useEffect, useState } from "./html.js";
import { choose, duration, language, load, t } from "./i18n.js";
import { Alerts } from "./pages/alerts.js";
import { Device } from "./pages/device.js";
import { Line } from "./pages/line.js";
import { Login } from "./pages/login.js";
import { Models } from "./pages/models.js";
import { Plant } from "./pages/plant.js";
import { doc, lostFor, resume, useChanges, user } from "./state.js";

const PAGES = { plant: Plant, line: Line, models: Models, alerts: Alerts, device: Device };
const THEMES = ["light", "dark"];

// A part of the address; as it stands where somebody has broken it.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function usePlace() {
  const read = () => location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const [place, go] = useState(read());
  useEffect(() => {
    const moved = () => go(read());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

function App({ languages }) {
  useChanges();
  const [, draw] = useState(0);
  const again = () => draw((count) => count + 1);
  const [name, ...rest] = usePlace();
  const page = Object.hasOwn(PAGES, name) ? name : "plant";
  document.title = [t(`page.${page}`), doc("meta")?.device, "Changeover"].filter(Boolean).join(" · ");
  if (!user()) return html`<${Header} languages=${languages} draw=${again} /><${Login} />`;
  const on = (doc("alerts") ?? []).filter((one) => !one.acknowledged_by).length;
  return html`<a class="skip" href="#main">${t("skip")}</a>
    <${Header} languages=${languages} draw=${again} page=${page} alerts=${on} />
    <${Lost} />
    <main id="main" tabindex="-1" class=${lostFor() ? "lost" : ""}><${PAGES[page]} rest=${rest} /></main>
    <${ActDialog} draw=${again} />`;
}

function Header({ languages, draw, page = null, alerts = 0 }) {
  return html`<header>
    <p class="brand">${doc("meta")?.device ?? "Changeover"}</p>
    ${page && html`<nav aria-label=${t("pages")}>
      ${Object.keys(PAGES).map((name) => html`<a href=${`#/${name}`} aria-current=${name === page ? "page" : null}>
        ${t(`page.${name}`)}${name === "alerts" && alerts > 0 && html` <span class="count">${alerts}</span>`}
      </a>`)}
    </nav>`}
    <div class="tools">
      ${user() && html`<span class="who">${user().user} · ${t(`role.${user().role}`)}</span>`}
      <${Theme} draw=${draw} />
      <select aria-label=${t("language")} value=${language()} onChange=${(event) => choose(event.target.value).then(draw)}>
        ${Object.entries(languages).map(([code, title]) => html`<option value=${code} selected=${code === language()}>${title}</option>`)}
      </select>
      ${user() && html`<button type="button" class="plain" onClick=${logout}>${t("logout")}</button>`}
    </div>
  </header>`;
}

function Theme({ draw }) {
  const root = document.documentElement;
  const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const turn = () => {
    root.dataset.theme = THEMES[isDark ? 0 : 1];
    localStorage.setItem("theme", root.dataset.theme);
    draw();
  };
  return html`<button type="button" class="plain" onClick=${turn}>${t(isDark ? "theme.light" : "theme.dark")}</button>`;
}

// Says that the device is out of reach, or only its broker, or stopped.
function Lost() {
  const seconds = lostFor();
  const isStopped = doc("status") === "stopped";
  if (seconds > 0) return html`<p class="banner bad" role="alert">${t("lost.device", { age: duration(seconds) })}</p>`;
  if (isStopped) return html`<p class="banner bad" role="alert">${t("lost.stopped")}</p>`;
  if (doc("console/link")?.connected === false)
    return html`<p class="banner warn" role="alert">${t("lost.broker", { broker: doc("console/plant")?.broker })}</p>`;
  return null;
}

const languages = await load();
await resume();
render(html`<${App} languages=${languages} />`, document.getElementById("app"));
