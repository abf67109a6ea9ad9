// The device itself: temperatures, power, memory, outbox, broker, versions.
import { html } from "../html.js";
import { bytes, duration, number, t } from "../i18n.js";
import { Card, Fact } from "../parts.js";
import { age, doc } from "../state.js";

// What nothing on the device can tell (null) is left out.
const facts = (pairs) => html`<dl class="facts wide">
  ${pairs.filter(([, value]) => value != null).map(([name, value]) => html`<${Fact} name=${name}>${value}<//>`)}
</dl>`;

export function Device() {
  const health = doc("health");
  const meta = doc("meta") ?? {};
  return html`<h1 class="hidden-title">${t("page.device")}</h1>
    ${health ? html`<p class="hint">${t("device.measured", { age: duration(age("health")) })}</p><div class="cards">
      <${Heat} health=${health} />
      <${Memory} memory=${health.memory} />
      <${Broker} health=${health} />
      <${Load} health=${health} />
    </div>` : html`<p>${t("device.none")}</p>`}
    <${Versions} meta=${meta} />
    <${Grafana} />`;
}

function Heat({ health }) {
  const limits = health.device?.limits_c ?? {};
  const zones = Object.entries(health.temperatures_c).map(([zone, value]) => [
    zone,
    `${number(value, 1)} °C${limits[zone] ? ` / ${number(limits[zone])} °C` : ""}`,
  ]);
  const slowed = health.device?.slowed;
  return html`<${Card} title=${t("device.heat")}>
    ${facts([
      ...zones,
      [t("device.power"), health.power_w == null ? null : `${number(health.power_w, 1)} W`],
      [t("device.slowed"), slowed == null ? t("device.unknown") : slowed.join(", ") || t("device.nothing")],
      [t("device.caps"), Object.entries(health.caps).map(([rule, variant]) => `${t(`rule.${rule}`)} ≤ ${variant}`).join(", ") || t("device.nothing")],
    ])}
  <//>`;
}

const process = (key) => {
  const [, kind, name] = key.match(/^(camera|worker)_(.+)_bytes$/) ?? [];
  return kind ? `${t(`device.${kind}`)} ${name}` : t(`device.${key}`);
};

function Memory({ memory }) {
  const total = memory.total_bytes ?? 0;
  const used = total - (memory.available_bytes ?? total);
  return html`<${Card} title=${t("device.memory")}>
    ${total > 0 && html`<progress max=${total} value=${used} aria-label=${t("device.memory")}></progress>`}
    ${facts(Object.entries(memory).map(([key, value]) => [process(key), bytes(value)]))}
  <//>`;
}

function Broker({ health }) {
  const link = doc("console/link");
  const outbox = health.outbox;
  const dropped = Object.entries(outbox).filter(([name]) => name.endsWith("_dropped")).reduce((sum, [, count]) => sum + count, 0);
  return html`<${Card} title=${t("device.broker")}>
    ${facts([
      [t("device.link"), t(link?.connected ? "device.connected" : "device.away")],
      [t("device.address"), doc("console/plant")?.broker],
      [t("device.round_trip"), health.round_trip_ms == null ? null : `${number(health.round_trip_ms, 1)} ms`],
      [t("device.outbox"), t("device.outbox.held", { count: number((outbox.events ?? 0) + (outbox.summaries ?? 0) + (outbox.detections ?? 0)), bytes: bytes(outbox.bytes) })],
      [t("device.outbox.age"), duration(health.outbox_age_s)],
      [t("device.outbox.dropped"), number(dropped)],
    ])}
  <//>`;
}

function Load({ health }) {
  const device = health.device ?? {};
  return html`<${Card} title=${t("device.load")}>
    ${facts([
      [t("device.load.average"), health.load.map((one) => number(one, 2)).join("  ")],
      [t("device.gpu"), device.gpu_load == null ? null : `${number(device.gpu_load * 100)} %`],
      [t("device.stalled"), device.memory_stalled == null ? null : `${number(device.memory_stalled * 100, 1)} %`],
      [t("device.board"), device.board || null],
      [t("device.system"), device.system || null],
      [t("device.mode"), device.power_mode || null],
      [t("device.lost_workers"), number(health.worker.lost)],
    ])}
  <//>`;
}

function Versions({ meta }) {
  const processors = Object.entries(meta.processors ?? {}).map(([model, one]) => [model, `${one.processor} · ${one.provider}${one.missing ? ` · ${one.missing}` : ""}`]);
  return html`<${Card} title=${t("device.versions")}>
    ${facts([
      ...Object.entries(meta.versions ?? {}),
      [t("device.backend"), meta.backend],
      [t("device.compute"), meta.compute],
      [t("device.boot"), meta.boot],
      [t("device.clock"), t(meta.clock_synced ? "device.clock.good" : "device.clock.bad")],
      [t("device.configuration"), meta.configuration_hash?.slice(0, 12)],
      ...processors,
    ])}
  <//>`;
}

function Grafana() {
  const bind = doc("console/plant")?.metrics;
  const [, host, port] = bind?.match(/^(.*):(\d+)$/) ?? [];
  const isNear = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(host);
  const address = `http://${isLocal ? host : location.hostname}:${port}/metrics`;
  if (!bind || port === "0") return html`<p class="hint">${t("grafana.off")}</p>`;
  return html`<p class="hint">${t("grafana")} ${isLocal && !isNear ? html`<code>${address}</code>` : html`<a href=${address} rel="noreferrer">${address}</a>`}</p>`;
}
