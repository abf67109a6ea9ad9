// Login with a name and a password.
import { login } from "../acts.js";
import { html, useState } from "../html.js";
import { t } from "../i18n.js";
import { begin } from "../state.js";

export function Login() {
  const [error, tell] = useState(null);
  const [isBusy, wait] = useState(false);
  const enter = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    wait(true);
    tell(null);
    try {
      const [status, answer] = await login(form.get("name"), form.get("password"));
      if (status === 200) begin(answer);
      else tell(answer.error ?? "failed");
    } catch {
      tell("no_connection");
    }
    wait(false);
  };
  return html`<main class="login"><form class="card" onSubmit=${enter}>
    <h1>Changeover</h1>
    <label>${t("login.name")}<input name="name" autocomplete="username" required autofocus /></label>
    <label>${t("login.password")}<input name="password" type="password" autocomplete="current-password" required /></label>
    <button type="submit" disabled=${isBusy}>${t("login.enter")}</button>
    <p class="error" role="alert">${error && t(`reason.${error}`)}</p>
    <p class="hint">${t("login.hint")}</p>
  </form></main>`;
}
