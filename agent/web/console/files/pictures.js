// Pictures of streams: the page asks for the next one once it has drawn the last, and draws the boxes itself.
import { html, useEffect, useRef } from "./html.js";
import { number, t } from "./i18n.js";
import { doc, lostFor } from "./state.js";

const STALE_S = 2;
const AGAIN_MS = 1000;
const COLOURS = ["#ffd400", "#00e0ff", "#ff7ad9", "#7dff5a", "#ff9d3c", "#b69bff", "#ffffff", "#ff6262"];
const views = new Map(); // by stream, the view that is drawn
let socket = null;

function connect() {
  if (socket || views.size === 0) return;
  socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/console/api/pictures`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => views.forEach(ask);
  socket.onmessage = ({ data }) => take(data);
  socket.onclose = () => {
    socket = null;
    setTimeout(connect, AGAIN_MS);
  };
}

function ask(view) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  view.askedAt = performance.now();
  socket.send(`${view.stream} ${view.frame}`);
}

async function take(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const view = views.get(header.stream);
  if (!view) return;
  const arrivedAt = performance.now();
  // The way there and back, without the device's own wait, is the most that the picture aged underway.
  const way = Math.max(0, arrivedAt - view.askedAt - header.waited_ms);
  setTimeout(() => views.get(view.stream) === view && view.frame !== header.frame && ask(view), AGAIN_MS); // a broken one
  const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
  view.frame = header.frame;
  view.bornAt = arrivedAt - header.age_ms - way;
  draw(view.canvas, bitmap, header.detections);
  bitmap.close();
  view.canvas.dataset.frame = header.frame;
  view.canvas.dataset.born = view.bornAt.toFixed(1);
  view.told(header.detections);
  tellAge(view);
  setTimeout(() => views.get(view.stream) === view && ask(view), view.pause);
}

function tellAge(view) {
  const seconds = (performance.now() - view.bornAt) / 1000;
  const isStale = !(seconds < STALE_S);
  view.canvas.dataset.age = seconds.toFixed(3);
  view.frameBox.classList.toggle("stale", isStale);
  const text = view.bornAt === -Infinity ? t("picture.none") : t("picture.age", { age: number(seconds, 1, 1) });
  view.label.textContent = isStale && view.bornAt !== -Infinity ? `${t("picture.stale")} · ${text}` : text;
}

setInterval(() => views.forEach(tellAge), 200);

function draw(canvas, bitmap, found) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  if (!found) return;
  const scale = bitmap.width / found.width;
  const unit = Math.max(1, bitmap.width / 400);
  pen.font = `600 ${Math.round(7 * unit)}px system-ui, sans-serif`;
  pen.lineJoin = "round";
  for (const one of found.objects) drawObject(pen, one, scale, unit);
  if (found.top) drawClasses(pen, found.top, unit);
}

function drawObject(pen, one, scale, unit) {
  const colour = COLOURS[one.class % COLOURS.length];
  const outlines = one.corners ? [one.corners.flat()] : [boxOf(one.box)];
  for (const polygon of one.polygons ?? []) {
    trace(pen, polygon, scale);
    pen.fillStyle = `${colour}40`;
    pen.fill();
  }
  for (const outline of outlines) {
    trace(pen, outline, scale);
    stroke(pen, colour, unit);
  }
  for (const [x, y, score] of one.keypoints ?? []) {
    if (score < 0.3) continue;
    pen.beginPath();
    pen.arc(x * scale, y * scale, 1.6 * unit, 0, 2 * Math.PI);
    pen.fillStyle = colour;
    pen.fill();
  }
  const [x, y] = one.box;
  write(pen, `${one.label} ${Math.round(one.score * 100)} %`, x * scale, y * scale, colour, unit);
}

function drawClasses(pen, top, unit) {
  top.slice(0, 3).forEach((one, row) => {
    const text = `${one.label} ${Math.round(one.score * 100)} %`;
    write(pen, text, 4 * unit, (12 + 12 * row) * unit, COLOURS[one.class % COLOURS.length], unit);
  });
}

const boxOf = ([x1, y1, x2, y2]) => [x1, y1, x2, y1, x2, y2, x1, y2];

function trace(pen, points, scale) {
  pen.beginPath();
  for (let at = 0; at < points.length; at += 2) pen.lineTo(points[at] * scale, points[at + 1] * scale);
  pen.closePath();
}

function stroke(pen, colour, unit) {
  pen.strokeStyle = "#000a"; // an edge, so that it is seen on any ground
  pen.lineWidth = 1.8 * unit;
  pen.stroke();
  pen.strokeStyle = colour;
  pen.lineWidth = unit;
  pen.stroke();
}

function write(pen, text, x, y, colour, unit) {
  const width = pen.measureText(text).width + 4 * unit;
  const height = 9 * unit;
  const left = Math.max(0, Math.min(x, pen.canvas.width - width));
  const top = Math.max(0, y - height);
  pen.fillStyle = colour;
  pen.fillRect(left, top, width, height);
  pen.fillStyle = "#000";
  pen.fillText(text, left + 2 * unit, top + 7 * unit);
}

// One stream's picture with its age. `pause`: ms between pictures; `told` gets each picture's detections.
export function Picture({ stream, pause = 0, told = () => {} }) {
  const canvas = useRef();
  const label = useRef();
  const frameBox = useRef();
  useEffect(() => {
    const [one, box] = [canvas.current, frameBox.current];
    const view = { stream, canvas: one, label: label.current, frameBox: box, frame: 0, bornAt: -Infinity, pause, told };
    views.set(stream, view);
    connect();
    ask(view);
    return () => {
      if (views.get(stream) === view) views.delete(stream);
      setTimeout(() => views.size === 0 && socket?.close(), AGAIN_MS); // the next page most often has pictures too
    };
  }, [stream, pause]);
  const status = doc(`stream/${stream}/status`) ?? "offline";
  const isLive = status === "online" && !lostFor();
  return html`<figure class="picture ${isLive ? "" : "dead"}" ref=${frameBox} data-stream=${stream}>
    <canvas ref=${canvas} width="640" height="480" role="img" aria-label=${t("picture.of", { stream })}></canvas>
    <figcaption>
      <span class="stream">${stream}</span>
      <span class="chip stream-${status}">${t(`stream.${status}`)}</span>
      <span class="age" ref=${label}>${t("picture.none")}</span>
    </figcaption>
  </figure>`;
}
