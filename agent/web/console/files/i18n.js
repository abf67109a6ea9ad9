// Words, numbers and times in the chosen language; each language is one file of lang/.
let words = {};
let code = "en";
let patterns = null; // of sentences that the device says, which are English: fetched once another language wants them

const get = async (name) => (await fetch(`lang/${name}.json`)).json();

// Loads the language that was chosen before, else the browser's where there is one, else English.
export async function load() {
  const known = await get("index");
  const asked = [localStorage.getItem("language"), ...navigator.languages.map((one) => one.slice(0, 2)), "en"];
  code = asked.find((one) => Object.hasOwn(known, one));
  words = await get(code);
  document.documentElement.lang = code;
  return known;
}

export async function choose(name) {
  localStorage.setItem("language", name);
  await load();
}

export const language = () => code;
export const has = (key) => Object.hasOwn(words, key);

// Returns the text of a key; {name} in it stands for a value of `values`.
export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

const SAID = "said.";
const BLANK = /\{(\w+)\}/g;
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function patternsOf(english) {
  const found = Object.entries(english).filter(([key]) => key.startsWith(SAID)).map(([key, text]) => ({
    key,
    names: [...text.matchAll(BLANK)].map((one) => one[1]),
    form: new RegExp(`^${text.split(/\{\w+\}/).map(escaped).join("(.+?)")}$`, "s"),
    plain: text.replace(BLANK, "").length,
  }));
  return found.sort((one, other) => other.plain - one.plain); // because "no product {product}" is in longer ones, too
}

// Returns a sentence of the device in the chosen language: one that the language does not have stays as it is.
export function said(text) {
  if (code === "en" || !text) return text;
  if (!patterns) {
    patterns = [];
    get("en").then((english) => (patterns = patternsOf(english))).catch(() => (patterns = null));
  }
  for (const { key, names, form } of patterns) {
    const found = text.match(form);
    if (found) return t(key, Object.fromEntries(names.map((name, at) => [name, said(found[at + 1])])));
  }
  const [start, ...rest] = text.split(": ");
  const word = rest.length ? [`stream.${start}`, `reason.${start}`].find(has) : null;
  return word ? `${t(word)}: ${said(rest.join(": "))}` : text;
}

export const number = (value, digits = 0, least = 0) =>
  value == null ? "–" : new Intl.NumberFormat(code, { maximumFractionDigits: digits, minimumFractionDigits: least }).format(value);

export function bytes(value) {
  if (value == null) return "–";
  const mebibytes = value / 2 ** 20;
  return mebibytes >= 1024 ? `${number(mebibytes / 1024, 1)} GiB` : `${number(mebibytes, mebibytes < 10 ? 1 : 0)} MiB`;
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 10) return `${number(seconds, 1, 1)} s`;
  if (seconds < 120) return `${number(seconds)} s`;
  if (seconds < 7200) return `${number(seconds / 60)} min`;
  return seconds < 172800 ? `${number(seconds / 3600)} h` : `${number(seconds / 86400)} d`;
}

export function clock(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return "–";
  const isToday = at.toDateString() === new Date().toDateString();
  const style = { timeStyle: "medium", hourCycle: "h23" };
  return new Intl.DateTimeFormat(code, isToday ? style : { ...style, dateStyle: "short" }).format(at);
}
