// Frame rate and latency of a stream, over the last 15 minutes; Grafana has the history.
import { html, useEffect, useRef } from "../html.js";
import { language, number, t } from "../i18n.js";
import { age, doc, now } from "../state.js";

const SPAN_S = 900;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function Curves({ stream }) {
  const place = useRef();
  const chart = useRef(null);
  const points = useRef([]);
  const health = doc("health");
  const theme = document.documentElement.dataset.theme;
  useEffect(() => {
    fetch("api/curves").then((answer) => answer.json()).then((all) => {
      points.current = all[stream] ?? [];
      show(chart.current, points.current);
    }).catch(() => {});
  }, [stream]);
  useEffect(() => {
    chart.current = make(place.current);
    show(chart.current, points.current);
    const grown = new ResizeObserver(([entry]) => chart.current?.setSize({ width: entry.contentRect.width, height: 190 }));
    grown.observe(place.current);
    return () => {
      grown.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [stream, theme, language()]);
  useEffect(() => {
    const one = health?.streams[stream];
    // By the device's clock, as its own points are; where that was set back, points of the future go.
    const at = now() - age("health");
    const kept = points.current.filter(([when]) => when <= at && at - when < SPAN_S);
    if (!one || at - (kept.at(-1)?.[0] ?? 0) < 2) return;
    points.current = [...kept, [at, one.fps, one.latency_ms.p50 ?? 0, one.latency_ms.p99 ?? 0]];
    show(chart.current, points.current);
  }, [health]);
  const last = points.current.at(-1);
  return html`<figure class="curves" data-points=${points.current.length}>
    <figcaption><strong>${stream}</strong>
      <span class="key fps">${t("curves.fps")} ${number(last?.[1], 1)}</span>
      <span class="key p50">${t("curves.p50")} ${number(last?.[2])} ms</span>
      <span class="key p99">${t("curves.p99")} ${number(last?.[3])} ms</span>
    </figcaption>
    <div ref=${place} class="chart" aria-hidden="true"></div>
  </figure>`;
}

function show(chart, points) {
  if (chart) chart.setData(points.length ? [0, 1, 2, 3].map((at) => points.map((one) => one[at])) : [[], [], [], []]);
}

function make(place) {
  const [text, grid] = [colour("--text"), colour("--edge")];
  const hours = new Intl.DateTimeFormat(language(), { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
  const curve = { width: 2, points: { show: false } };
  return new uPlot({
    width: place.clientWidth || 600,
    height: 190,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: true, range: () => [now() - SPAN_S, now()] }, fps: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] }, ms: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] } },
    axes: [{ ...axis, values: (_, ticks) => ticks.map((one) => hours.format(one * 1000)) }, { ...axis, scale: "fps", size: 50 }, { ...axis, scale: "ms", side: 1, size: 60, grid: { show: false } }],
    series: [
      {},
      { ...curve, scale: "fps", stroke: colour("--curve-1") },
      { ...curve, scale: "ms", stroke: colour("--curve-2") },
      { ...curve, scale: "ms", stroke: colour("--curve-3") },
    ],
  }, [[], [], [], []], place);
}
