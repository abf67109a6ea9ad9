// All lines at a glance: product, ready and live as a PLC sees them, phase, cause, next change, and a tile a camera.
import { html } from "../html.js";
import { clock, duration, t } from "../i18n.js";
import { cause, Fact, lines, Phase, Since, streamsOf } from "../parts.js";
import { Picture } from "../pictures.js";
import { age, doc, lostFor } from "../state.js";

const LIVE_S = 3; // the contract's interlock: a PLC runs while the last `live` is its product and younger
const TILE_MS = 400;

export function Plant() {
  return html`<h1 class="hidden-title">${t("page.plant")}</h1>
    <div class="plant">${lines().map((line) => html`<${LineCard} key=${line} line=${line} />`)}</div>`;
}

// The product that a PLC may run now; null where it has to stand.
export function runs(line) {
  const live = doc(`line/${line}/live`);
  return !lostFor() && live && live !== "0" && age(`line/${line}/live`) < LIVE_S ? live : null;
}

export function Ready({ line }) {
  const ready = doc(`line/${line}/ready`) ?? "0";
  const running = runs(line);
  const kind = lostFor() ? "unknown" : running ? "yes" : "no";
  const text = { unknown: t("ready.unknown"), yes: running, no: t("ready.no") }[kind];
  const heard = age(`line/${line}/live`);
  return html`<div class="ready ${kind}" data-ready=${lostFor() ? "" : ready} data-live=${running ?? "0"}>
    <span class="word">${t(`ready.${kind}.title`)}</span>
    <strong>${text}</strong>
    <span class="live ${heard < LIVE_S ? "beats" : ""}">
      ${heard < LIVE_S ? t("live.heard", { age: duration(heard) }) : t("live.silent")}
    </span>
  </div>`;
}

function LineCard({ line }) {
  const state = doc(`line/${line}/state`) ?? {};
  const next = state.next;
  return html`<section class="card line" data-line=${line} aria-label=${line}>
    <h2><a href=${`#/line/${line}`}>${line}</a> <${Phase} line=${line} /></h2>
    <${Ready} line=${line} />
    <dl class="facts">
      <${Fact} name=${t("product")}>${state.product ?? t("none")}<//>
      <${Fact} name=${t("model")}>${state.model ?? t("none")}<//>
      <${Fact} name=${t("cause")}>${cause(state.cause)} <${Since} at=${state.since} /><//>
      <${Fact} name=${t("next")}>${next ? t("next.at", { at: clock(next.at), model: next.model }) : t("next.none")}<//>
    </dl>
    <div class="tiles">
      ${streamsOf(line).map((stream) => html`<${Picture} key=${stream} stream=${stream} pause=${TILE_MS} />`)}
    </div>
  </section>`;
}
