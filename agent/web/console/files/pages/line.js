// One line: the live picture with its boxes, what a user may do, the last changeovers, curves, and announced models.
import { perform } from "../acts.js";
import { html, useState } from "../html.js";
import { bytes, clock, duration, number, t } from "../i18n.js";
import { Card, cause, Chip, Fact, lines, Phase, productsOf, Since, streamsOf, Table } from "../parts.js";
import { Picture } from "../pictures.js";
import { doc, may } from "../state.js";
import { Curves } from "./curves.js";
import { Ready } from "./plant.js";

export function Line({ rest }) {
  const all = lines();
  const line = all.includes(rest[0]) ? rest[0] : all[0];
  if (!line) return null;
  return html`<nav class="tabs" aria-label=${t("lines")}>
      ${all.map((one) => html`<a href=${`#/line/${one}`} aria-current=${one === line ? "true" : null}>${one}</a>`)}
    </nav>
    <${OneLine} key=${line} line=${line} />`;
}

function OneLine({ line }) {
  const state = doc(`line/${line}/state`) ?? {};
  const streams = streamsOf(line);
  return html`<h1>${line} <${Phase} line=${line} /></h1>
    <div class="line-page">
      <div class="pictures">${streams.map((stream) => html`<${Watched} key=${stream} stream=${stream} />`)}</div>
      <div class="side">
        <${Ready} line=${line} />
        <dl class="facts">
          <${Fact} name=${t("product")}>${state.product ?? t("none")}<//>
          <${Fact} name=${t("model")}>${state.model ?? t("none")}<//>
          <${Fact} name=${t("wanted")}>${state.wanted ?? "–"}<//>
          <${Fact} name=${t("cause")}>${cause(state.cause)} <${Since} at=${state.since} /><//>
        </dl>
        ${may("operator") && html`<${LineActs} line=${line} state=${state} />`}
      </div>
    </div>
    <${Changeovers} line=${line} />
    <${Card} title=${t("curves.title")}>${streams.map((stream) => html`<${Curves} key=${stream} stream=${stream} />`)}<//>
    <${Announced} line=${line} />`;
}

// A picture, and under it what its last frame had; the words come with the pictures, not with the state.
function Watched({ stream }) {
  const [found, tell] = useState(null);
  return html`<div class="watched">
    <${Picture} stream=${stream} told=${tell} />
    ${found && html`<p class="found">${found.model} · ${foundIn(found)} · ${number(found.latency_ms)} ms</p>`}
  </div>`;
}

// A classified picture has no objects, but its best class.
const foundIn = ({ objects, top }) =>
  top?.length ? `${top[0].label} ${number(top[0].score * 100)} %` : t("found", { count: objects.length });

function LineActs({ line, state }) {
  const products = productsOf(line);
  const models = (doc("console/catalog")?.models ?? []).map((one) => one.model);
  const ask = (key, value) => t(`ask.${key}`, { line, value });
  return html`<${Card} title=${t("acts.title")} kind="acts">
    <${Choice} label=${t("act.product")} options=${Object.keys(products)} chosen=${state.product}
      act=${(value) => perform({ act: "product", line, value }, ask("product", value))} />
    <${Choice} label=${t("act.model")} options=${models} chosen=${state.model}
      act=${(value) => perform({ act: "model", line, value }, ask("model", value))} />
    <${Choice} label=${t("act.prepare")} options=${[...new Set([...Object.keys(products), ...models])]}
      act=${(value) => perform({ act: "prepare", line, value })} />
    <p class="buttons">
      <button type="button" class="plain" onClick=${() => perform({ act: "model", line, value: "auto" }, ask("auto"))}>${t("act.auto")}</button>
      <button type="button" class="plain" onClick=${() => perform({ act: "rollback", line }, ask("rollback"))}>${t("act.rollback")}</button>
    </p>
  <//>`;
}

function Choice({ label, options, chosen = null, act }) {
  const [value, choose] = useState(null);
  const present = value ?? (options.includes(chosen) ? chosen : options[0]) ?? "";
  const submit = (event) => {
    event.preventDefault();
    act(present);
  };
  return html`<form class="choice" onSubmit=${submit}>
    <label>${label}
      <select value=${present} onChange=${(event) => choose(event.target.value)}>
        ${options.map((one) => html`<option value=${one} selected=${one === present}>${one}</option>`)}
      </select>
    </label>
    <button type="submit" disabled=${!options.length} aria-label=${`${t("act.go")}: ${label}`}>${t("act.go")}</button>
  </form>`;
}

const nowrap = (text) => html`<span class="nowrap">${text}</span>`;

function Changeovers({ line }) {
  const all = [...(doc(`console/changeovers/${line}`) ?? [])].reverse();
  const rows = all.slice(0, 10).map((one) => [
    nowrap(clock(one.requested_at)),
    one.product ?? "–",
    `${one.from ?? t("none")} → ${one.to ?? "–"}`,
    cause(one.cause),
    html`<${Chip} kind=${`result-${one.result}`}>${t(`result.${one.result}`)}<//> ${one.reason ? t(`reason.${one.reason}`) : ""}`,
    one.residency ? t(`residency.${one.residency}`) : "–",
    nowrap(`${number(one.total_ms)} ms`),
    nowrap(`${number(one.blind_ms)} ms`),
    number(one.frames_lost),
  ]);
  const head = ["at", "product", "change", "cause", "result", "residency", "total", "gap", "frames_lost"];
  return html`<${Card} title=${t("changeovers.title")}>
    ${rows.length ? html`<${Table} label=${t("changeovers.title")} head=${head.map((one) => t(`changeovers.${one}`))} rows=${rows} />` : html`<p>${t("changeovers.none")}</p>`}
  <//>`;
}

function Announced({ line }) {
  const kept = (doc("cache")?.models ?? []).filter((one) => one.reserved_for?.split(",").map((name) => name.trim()).includes(line));
  return html`<${Card} title=${t("announced.title")}>
    ${kept.length ? html`<ul>${kept.map((one) => html`<li>${one.model} · ${bytes(one.bytes)} · ${t(`cached.${one.state}`)}</li>`)}</ul>` : html`<p>${t("announced.none")}</p>`}
  <//>`;
}
