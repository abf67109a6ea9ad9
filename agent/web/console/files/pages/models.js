// Models: memory against the budget as one bar, the catalog and where each came from, jobs, and canaries.
import { perform } from "../acts.js";
import { html } from "../html.js";
import { bytes, duration, number, t } from "../i18n.js";
import { Card, Chip, lines, Said, Since, Table } from "../parts.js";
import { doc, may, topics } from "../state.js";

const KINDS = ["active", "reserved", "preloaded", "resident", "other"];
const KIND_OF = { active: "active", pinned: "active", draining: "active", reserved: "reserved", preloaded: "preloaded", resident: "resident" };
const ENDS = ["done", "failed", "rejected", "superseded", "cancelled"];

export function Models() {
  return html`<h1 class="hidden-title">${t("page.models")}</h1>
    <${Budget} />
    <${Catalog} />
    <${Jobs} />
    <${Canaries} />`;
}

const kindOf = (model) => KIND_OF[model.state] ?? "other";

function Budget() {
  const cache = doc("cache");
  if (!cache) return html`<${Card} title=${t("budget.title")}><p>${t("budget.none")}</p><//>`;
  const sums = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
  for (const one of cache.models) sums[kindOf(one)] += one.bytes;
  // What is used and no model's own: the runtimes, and bytes that have not come back.
  sums.other += Math.max(0, cache.used_bytes - cache.models.reduce((sum, one) => sum + one.bytes, 0));
  const whole = Math.max(cache.budget_bytes, cache.used_bytes, 1);
  const shown = KINDS.filter((kind) => sums[kind] > 0);
  const told = shown.map((kind) => `${t(`budget.${kind}`)} ${bytes(sums[kind])}`).join(", ");
  return html`<${Card} title=${t("budget.title")}>
    <p class="big">${t("budget.used", { used: bytes(cache.used_bytes), budget: bytes(cache.budget_bytes) })}</p>
    <div class="bar" role="img" aria-label=${told}>
      ${shown.map((kind) => html`<span class=${`part ${kind}`} style=${{ width: `${(100 * sums[kind]) / whole}%` }}></span>`)}
    </div>
    <ul class="keys">${shown.map((kind) => html`<li><span class=${`swatch ${kind}`}></span>${t(`budget.${kind}`)} ${bytes(sums[kind])}</li>`)}
      <li><span class="swatch"></span>${t("budget.free")} ${bytes(Math.max(0, cache.budget_bytes - cache.used_bytes))}</li></ul>
  <//>`;
}

function Catalog() {
  const catalog = doc("console/catalog");
  const resident = new Map((doc("cache")?.models ?? []).map((one) => [one.model, one]));
  const rows = (catalog?.models ?? []).map((one) => {
    const held = resident.get(one.model);
    return [
      html`<strong>${one.model}</strong>`,
      held ? html`<${Chip} kind=${`cached-${kindOf(held)}`}>${t(`cached.${held.state}`)}<//>` : t("cached.no"),
      held ? bytes(held.bytes) : "–",
      held?.reserved_for ?? "–",
      held?.processor ?? "–",
      bytes(one.bytes),
      html`<code title=${one.source}>${one.source.split("/").slice(-2).join("/")}</code>`,
      html`<code title=${one.sha256}>${one.sha256.slice(0, 12)}</code>`,
    ];
  });
  const head = ["model", "state", "memory", "reserved_for", "processor", "size", "source", "sha256"];
  return html`<${Card} title=${t("catalog.title")}>
    <${Table} label=${t("catalog.title")} head=${head.map((one) => t(`catalog.${one}`))} rows=${rows} />
    ${catalog?.left_out > 0 && html`<p>${t("catalog.left_out", { count: catalog.left_out })}</p>`}
    ${may("admin") && html`<p class="buttons"><button type="button" class="plain" onClick=${() => perform({ act: "reload" }, t("ask.reload"))}>${t("act.reload")}</button></p>`}
  <//>`;
}

const jobs = () => topics("job/", "/state").map(doc).sort((a, b) => b.since.localeCompare(a.since));

function Jobs() {
  return html`<${Card} title=${t("jobs.title")}>
    ${jobs().length === 0 && html`<p>${t("jobs.none")}</p>`}
    ${jobs().map((job) => html`<article class="job" key=${job.id}>
      <h3>${job.id} <${Chip} kind=${`job-${job.state}`}>${t(`job.${job.state}`)}<//> <${Since} at=${job.since} /></h3>
      <p>${job.models.join(", ")}</p>
      ${!ENDS.includes(job.state) && job.total > 0 && html`<progress max=${job.total} value=${job.bytes} aria-label=${job.id}></progress>
        <p>${t("jobs.progress", { done: bytes(job.bytes), total: bytes(job.total), rate: number(job.kbps), left: duration(job.eta_s) })}</p>`}
      ${job.reason && html`<p class="error">${t(`reason.${job.reason}`)} <${Said} text=${job.detail} /></p>`}
      ${may("admin") && !ENDS.includes(job.state) && html`<button type="button" class="plain" onClick=${() => perform({ act: "cancel", value: { job: job.id } })}>${t("act.cancel")}</button>`}
    </article>`)}
    ${may("admin") && html`<${Order} />`}
  <//>`;
}

const field = (name, attributes = {}) => html`<label>${t(`order.${name}`)}<input name=${name} ...${attributes} /></label>`;

function Order() {
  const order = (event) => {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value !== ""));
    const { activate, ...model } = given;
    const rev = Math.max(0, ...jobs().map((job) => job.rev ?? 0)) + 1;
    const asks = { now: t("ask.order"), window: t("ask.order.window") }[activate] ?? null;
    perform({ act: "models", value: { rev, models: [model], activate } }, asks);
  };
  return html`<details><summary>${t("act.models")}</summary><form class="grid" onSubmit=${order}>
    ${field("name", { required: true })} ${field("variant", { required: true, value: "n" })} ${field("version", { required: true })}
    ${field("file", { required: true, placeholder: "https://" })} ${field("sha256", { required: true, pattern: "[0-9a-fA-F]{64}" })} ${field("signature")}
    <label>${t("order.activate")}<select name="activate">${["changeover", "window", "now"].map((one) => html`<option value=${one}>${t(`order.activate.${one}`)}</option>`)}</select></label>
    <button type="submit">${t("act.order")}</button>
  </form></details>`;
}

function Canaries() {
  return html`<${Card} title=${t("canary.title")}>
    ${lines().map((line) => html`<${Canary} key=${line} line=${line} canary=${doc(`line/${line}/canary`)} />`)}
    ${may("admin") && html`<${Trial} />`}
  <//>`;
}

function Canary({ line, canary }) {
  if (!canary) return html`<p>${line}: ${t("canary.none")}</p>`;
  const isOn = ["running", "ready_to_promote"].includes(canary.result);
  const times = (one) => (one ? `${number(one.p50, 1)} / ${number(one.p99, 1)} ms` : "–");
  const share = (one) => (one == null ? "–" : `${number(one * 100, 1)} %`);
  const figures = [
    ["mode", t(`mode.${canary.mode}`)],
    ["share", share(canary.share)],
    ["frames", t("canary.frames.of", { frames: number(canary.frames), wanted: number(canary.wanted_frames) })],
    ["answered", number(canary.answered)],
    ["agree", share(canary.agree)],
    ["missing", number(canary.missing)],
    ["extra", number(canary.extra)],
    ["score_delta", number(canary.score_delta, 4)],
    ["stable", times(canary.latency_ms?.stable)],
    ["candidate", times(canary.latency_ms?.candidate)],
  ];
  return html`<article class="job">
    <h3>${line}: ${canary.candidate} ${t("canary.against")} ${canary.stable ?? "–"} <${Chip} kind=${`canary-${canary.result}`}>${t(`canary.${canary.result}`)}<//> <${Since} at=${canary.since} /></h3>
    <dl class="facts wide">${figures.map(([name, value]) => html`<div class="fact"><dt>${t(`canary.${name}`)}</dt><dd>${value}</dd></div>`)}</dl>
    ${isOn && html`<progress max=${canary.wanted_frames} value=${canary.frames} aria-label=${t("canary.frames")}></progress>`}
    ${canary.reason && html`<p class="error">${t(`reason.${canary.reason}`)} <${Said} text=${canary.detail} /></p>`}
    ${isOn && canary.detail && html`<p><${Said} text=${canary.detail} /></p>`}
    ${may("admin") && isOn && html`<p class="buttons">
      <button type="button" class="plain" onClick=${() => perform({ act: "canary", line, value: "stop" })}>${t("act.canary.stop")}</button>
      <button type="button" onClick=${() => perform({ act: "canary", line, value: "promote" }, t("ask.promote", { line, value: canary.candidate }))}>${t("act.canary.promote")}</button>
    </p>`}
  </article>`;
}

function Trial() {
  const models = (doc("console/catalog")?.models ?? []).map((one) => one.model);
  const start = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const value = {
      candidate: form.get("candidate"),
      mode: form.get("mode"),
      share: Number(form.get("share")) / 100,
      frames: Number(form.get("frames")),
      promote: form.get("promote"),
    };
    const line = form.get("line");
    perform({ act: "canary", line, value }, value.promote === "auto" ? t("ask.promote.auto", { line, value: value.candidate }) : null);
  };
  const select = (name, options, words = (one) => one) => html`<label>${t(`trial.${name}`)}<select name=${name}>${options.map((one) => html`<option value=${one}>${words(one)}</option>`)}</select></label>`;
  return html`<details><summary>${t("act.canary")}</summary><form class="grid" onSubmit=${start}>
    ${select("line", lines())} ${select("candidate", models)}
    ${select("mode", ["shadow", "canary"], (one) => t(`trial.${one}`))} ${select("promote", ["ask", "auto"], (one) => t(`trial.${one}`))}
    <label>${t("trial.share")}<input name="share" type="number" min="1" max="100" value="10" required /></label>
    <label>${t("trial.frames")}<input name="frames" type="number" min="10" value="2000" required /></label>
    <button type="submit">${t("act.canary.start")}</button>
  </form></details>`;
}
