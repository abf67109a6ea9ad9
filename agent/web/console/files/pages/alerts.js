// Alerts that are on, with what to do about each; and the log of alerts, changeovers and acts.
import { outcome, perform } from "../acts.js";
import { html } from "../html.js";
import { clock, number, said, t } from "../i18n.js";
import { alertCure, alertTitle, Card, cause, Chip, lines, Said } from "../parts.js";
import { doc, may } from "../state.js";

const SHOWN = 100;

export function Alerts() {
  const on = doc("alerts") ?? [];
  return html`<h1 class="hidden-title">${t("page.alerts")}</h1>
    <${Card} title=${t("alerts.on")}>
      ${on.length === 0 && html`<p class="good big">${t("alerts.none")}</p>`}
      ${on.map((one) => html`<${Alert} key=${`${one.code} ${one.line} ${one.stream}`} one=${one} />`)}
    <//>
    <${Log} />`;
}

function Alert({ one }) {
  const where = one.line ?? one.stream;
  const acknowledge = () => perform({ act: "acknowledge", value: { code: one.code, line: one.line, stream: one.stream } });
  return html`<article class="alert ${one.acknowledged_by ? "seen" : ""}" data-code=${one.code}>
    <h3>${alertTitle(one.code)}${where && html` · ${where}`} <code>${one.code}</code></h3>
    ${one.detail && html`<p><${Said} text=${one.detail} /></p>`}
    ${alertCure(one.code) && html`<p><strong>${t("alerts.do")}</strong> ${alertCure(one.code)}</p>`}
    ${one.acknowledged_by
      ? html`<p class="hint">${t("alerts.seen", { user: one.acknowledged_by, at: clock(one.acknowledged_at) })}</p>`
      : may("operator") && html`<button type="button" class="plain" onClick=${acknowledge}>${t("act.acknowledge")}</button>`}
  </article>`;
}

const ofAlert = (one) => ({
  at: one.at,
  kind: one.acknowledged_by ? "seen" : one.on ? "raised" : "cleared",
  where: one.line ?? one.stream,
  text: [alertTitle(one.code), one.acknowledged_by ?? said(one.detail)].filter(Boolean).join(": "),
});

const ofChangeover = (one) => ({
  at: one.ready_at ?? one.requested_at,
  kind: one.result,
  where: one.line,
  text: [`${one.from ?? t("none")} → ${one.to ?? "–"}`, cause(one.cause), `${number(one.total_ms)} ms`, one.reason && t(`reason.${one.reason}`)].filter(Boolean).join(" · "),
});

const ofAct = (one) => ({
  at: one.at,
  kind: "act",
  where: one.line,
  text: [`${one.user}: ${t(`act.${one.act}`)}`, wordOf(one.value), outcome(one)].filter(Boolean).join(" · "),
});

const wordOf = (value) => (typeof value === "object" ? value && JSON.stringify(value) : value);

function Log() {
  const entries = [
    ...(doc("console/changes") ?? []).map(ofAlert),
    ...lines().flatMap((line) => (doc(`console/changeovers/${line}`) ?? []).map(ofChangeover)),
    ...(doc("console/acts") ?? []).map(ofAct),
  ].sort((a, b) => b.at.localeCompare(a.at));
  return html`<${Card} title=${t("log.title")}>
    <p class="hint">${t("log.hint")}</p>
    <ol class="log">${entries.slice(0, SHOWN).map((one) => html`<li>
      <time datetime=${one.at}>${clock(one.at)}</time> <${Chip} kind=${`log-${one.kind}`}>${t(`log.${one.kind}`)}<//>
      <span class="where">${one.where ?? ""}</span> <span class="text">${one.text}</span>
    </li>`)}</ol>
    ${entries.length === 0 && html`<p>${t("log.none")}</p>`}
  <//>`;
}
