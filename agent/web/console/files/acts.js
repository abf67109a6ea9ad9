// What a user does: asks first where a line stops, sends it, and shows what the device answers.
import { html, useEffect, useRef } from "./html.js";
import { said, t } from "./i18n.js";
import { ended } from "./state.js";

const TOLD_MS = 6000;
let question = null;
let told = null;
let listener = () => {};

async function post(path, body) {
  const answer = await fetch(`api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return [answer.status, await answer.json().catch(() => ({}))];
}

export const login = (name, password) => post("login", { name, password });

export async function logout() {
  await post("logout", {}).catch(() => null);
  ended();
}

// Performs an act; `asks` is the question where a line stops for it.
export async function perform(act, asks = null) {
  if (asks && !(await confirmed(asks))) return;
  try {
    const [status, answer] = await post("act", { ...act, confirmed: asks !== null });
    if (status === 401) ended();
    tell(status === 200 || status === 202 ? answer : { result: "rejected", reason: answer.error });
  } catch {
    tell({ result: "failed", reason: "no_connection" });
  }
}

export const outcome = ({ result, reason, detail }) =>
  [t(`result.${result ?? "sent"}`), reason && t(`reason.${reason}`), said(detail)].filter(Boolean).join(" · ");

function tell(answer) {
  told = { text: outcome(answer), isGood: ["done", "accepted", "noop"].includes(answer.result) };
  listener();
  const shown = told;
  setTimeout(() => {
    if (told === shown) told = null;
    listener();
  }, TOLD_MS);
}

const confirmed = (text) =>
  new Promise((resolve) => {
    question = { text, resolve };
    listener();
  });

// The question before an act, and the answer after it; stands once on the page.
export function ActDialog({ draw }) {
  const dialog = useRef();
  listener = draw;
  useEffect(() => {
    if (question && !dialog.current.open) dialog.current.showModal();
  });
  const answer = (isYes) => {
    dialog.current.close();
    question?.resolve(isYes);
    question = null;
  };
  return html`<dialog ref=${dialog} aria-labelledby="question" onCancel=${() => answer(false)}>
      <h2 id="question">${t("ask.title")}</h2>
      <p>${question?.text}</p>
      <p class="buttons">
        <button type="button" class="plain" onClick=${() => answer(false)}>${t("ask.no")}</button>
        <button type="button" class="danger" onClick=${() => answer(true)}>${t("ask.yes")}</button>
      </p>
    </dialog>
    <div role="status" class="toast ${told ? (told.isGood ? "good" : "bad") : "hidden"}">${told?.text}</div>`;
}
