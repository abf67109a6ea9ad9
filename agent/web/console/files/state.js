// What the device says: the newest document of each topic, from the stream of events, and whether that stream is alive.
import { useEffect, useState } from "./html.js";

const LOST_MS = 2500; // a beat comes each second
const AGAIN_MS = 700;
const documents = new Map();
const listeners = new Set();
let source = null;
let beatAt = 0;
let clockOffset = 0;
let session = null;
let isLost = false;
let isDue = false;

function changed() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    for (const listener of listeners) listener();
  });
}

// Draws the calling component again at each change, and twice a second, because ages grow.
export function useChanges() {
  const [, draw] = useState(0);
  useEffect(() => {
    const listener = () => draw((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
}

export const doc = (topic) => documents.get(topic)?.doc ?? null;
export const age = (topic) => {
  const found = documents.get(topic);
  return found ? (performance.now() - found.at) / 1000 : Infinity;
};
export const topics = (start, end = "") =>
  [...documents.keys()].filter((one) => one.startsWith(start) && one.endsWith(end)).sort();
export const user = () => session;
export const lostFor = () => (isLost ? (performance.now() - beatAt) / 1000 : 0);
export const now = () => (Date.now() + clockOffset) / 1000;
export const since = (text) => Math.max(0, now() - Date.parse(text) / 1000);

const RANK = { viewer: 0, operator: 1, admin: 2 };
export const may = (role) => session !== null && RANK[session.role] >= RANK[role];

function take({ topic, age_s, doc }) {
  if (doc === null) documents.delete(topic);
  else documents.set(topic, { doc, at: performance.now() - age_s * 1000 });
}

function beaten(now) {
  beatAt = performance.now();
  isLost = false;
  if (now) clockOffset = now * 1000 - Date.now();
  changed();
}

function listen() {
  source?.close();
  source = new EventSource("api/events");
  source.addEventListener("snapshot", (event) => {
    documents.clear();
    JSON.parse(event.data).forEach(take);
    beaten();
  });
  source.addEventListener("message", (event) => {
    take(JSON.parse(event.data));
    changed();
  });
  source.addEventListener("beat", (event) => beaten(JSON.parse(event.data).now));
  source.addEventListener("ended", () => ended());
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(askAgain, AGAIN_MS);
  });
}

async function askAgain() {
  try {
    const answer = await fetch("api/session");
    if (answer.status === 401) ended();
    else listen();
  } catch {
    setTimeout(askAgain, AGAIN_MS);
  }
}

export function ended() {
  source?.close();
  source = null;
  session = null;
  documents.clear();
  changed();
}

export function begin(found) {
  session = found;
  beatAt = performance.now();
  listen();
  changed();
}

export async function resume() {
  const answer = await fetch("api/session").catch(() => null);
  if (answer?.ok) begin(await answer.json());
}

setInterval(() => {
  if (!session) return;
  const silent = performance.now() - beatAt;
  isLost = silent > LOST_MS;
  // A stream that hangs without an end is given up; one that ended is dialled again by the browser.
  if (silent > 3 * LOST_MS && source?.readyState === EventSource.OPEN) listen();
  changed();
}, 500);
