// Small parts that several pages use.
import { html } from "./html.js";
import { duration, has, language, said, t } from "./i18n.js";
import { doc, lostFor, since, topics } from "./state.js";

export const lines = () => doc("meta")?.lines ?? topics("line/", "/phase").map((one) => one.split("/")[1]);
export const streamsOf = (line) => (doc("meta")?.streams ?? []).filter((one) => one.line === line).map((one) => one.id);
export const productsOf = (line) => doc("console/plant")?.lines[line]?.products ?? {};

export const Chip = ({ kind, children }) => html`<span class="chip ${kind}">${children}</span>`;

// A line's phase; while the device is out of reach nobody knows it.
export function Phase({ line }) {
  const phase = lostFor() ? "unknown" : doc(`line/${line}/phase`) ?? "unknown";
  return html`<${Chip} kind=${`phase-${phase}`}>${t(`phase.${phase}`)}<//>`;
}

export const Since = ({ at }) => (at ? html`<time datetime=${at}>${t("since", { age: duration(since(at)) })}</time>` : null);

// A cause in words: which rule asked, with its value, and who.
export function cause(one) {
  if (!one) return "–";
  const value = one.value ? ` ${one.value}` : "";
  const by = one.user ? ` (${one.user})` : "";
  const over = one.overrode ? `, ${t("cause.instead", { model: one.overrode.model })}` : "";
  return `${t(`rule.${one.rule}`)}${value}${by}${over}`;
}

export const alertTitle = (code) => (has(`alert.${code}`) ? t(`alert.${code}`) : code);
export const alertCure = (code) => (has(`cure.${code}`) ? t(`cure.${code}`) : "");

// A sentence of the device; one that the language does not have is said to be English, for who listens to the page.
export function Said({ text }) {
  const here = said(text);
  return html`<span lang=${here === text && language() !== "en" ? "en" : null}>${here}</span>`;
}

export const Fact = ({ name, children }) => html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;

export const Card = ({ title, children, kind = "" }) => html`<section class="card ${kind}"><h2>${title}</h2>${children}</section>`;

// A table that scrolls by itself on a phone; `rows` are arrays of cells.
export const Table = ({ label, head, rows }) => html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>
  <table>
    <thead><tr>${head.map((one) => html`<th scope="col">${one}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
  </table>
</div>`;
