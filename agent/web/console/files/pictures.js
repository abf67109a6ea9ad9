// Pictures of streams: the page asks for the next one once it has drawn the last, in the size that it shows and that its
// link carries in time, and draws the boxes itself.
import { html, useEffect, useRef } from "./html.js";
import { number, t } from "./i18n.js";
import { doc, lostFor } from "./state.js";

const STALE_S = 2;
const AGAIN_MS = 1000;
const COLOURS = ["#ffd400", "#00e0ff", "#ff7ad9", "#7dff5a", "#ff9d3c", "#b69bff", "#ffffff", "#ff6262"];
// Sizes with their longer side in pixels and their usual file in KiB, as the device makes them.
const SIZES = [["small", 320, 10], ["medium", 480, 24], ["large", 960, 64]];
const MOST_WAY_MS = 350; // a picture that is longer underway is asked for in a smaller size
const EASY_WAY_MS = 200; // a larger size is asked for once it would take no longer
const views = new Map(); // by stream, the view that is drawn
let socket = null;
let pace = 0; // ms on the way for each KiB of the usual file, as the last pictures had it
let most = 0; // the largest size that the link carries in time; begins small, because nobody knows the link yet

function connect() {
  if (socket || views.size === 0) return;
  socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/console/api/pictures`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => views.forEach(ask);
  socket.onmessage = ({ data }) => take(data);
  socket.onclose = () => {
    socket = null;
    views.forEach((view) => (view.isWaiting = false));
    setTimeout(connect, AGAIN_MS);
  };
}

function ask(view) {
  if (socket?.readyState !== WebSocket.OPEN || view.isWaiting || views.get(view.stream) !== view) return;
  view.isWaiting = true;
  view.askedAt = performance.now();
  view.size = Math.min(most, shown(view));
  socket.send(`${view.stream} ${view.frame} ${SIZES[view.size][0]}`);
}

// The least size that fills the view; a little enlarged looks as good.
function shown({ canvas }) {
  const side = Math.max(canvas.clientWidth, canvas.clientHeight) * devicePixelRatio;
  const found = SIZES.findIndex(([, longest]) => longest * 1.25 >= side);
  return found < 0 ? SIZES.length - 1 : found;
}

function learn(way, size) {
  const last = way / SIZES[size][2];
  pace = pace ? 0.7 * pace + 0.3 * last : last;
  if (most < SIZES.length - 1 && pace * SIZES[most + 1][2] < EASY_WAY_MS) most += 1;
  while (most > 0 && pace * SIZES[most][2] > MOST_WAY_MS) most -= 1;
}

async function take(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const view = views.get(header.stream);
  if (!view) return;
  const arrivedAt = performance.now();
  // The way there and back, without the device's own wait, is the most that the picture aged underway.
  const way = Math.max(0, arrivedAt - view.askedAt - header.waited_ms);
  learn(way, view.size);
  view.isWaiting = false;
  const file = new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" });
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) {
    setTimeout(ask, AGAIN_MS, view);
    return;
  }
  view.frame = header.frame;
  view.bornAt = arrivedAt - header.age_ms - way;
  draw(view.canvas, bitmap, header.detections);
  bitmap.close();
  view.canvas.dataset.frame = header.frame;
  view.canvas.dataset.born = view.bornAt.toFixed(1);
  view.told(header.detections);
  tellAge(view);
  setTimeout(ask, view.pause, view);
}

function tellAge(view) {
  const seconds = (performance.now() - view.bornAt) / 1000;
  const isStale = !(seconds < STALE_S);
  view.canvas.dataset.age = seconds.toFixed(3);
  view.frameBox.classList.toggle("stale", isStale);
  const text = view.bornAt === -Infinity ? t("picture.none") : t("picture.age", { age: number(seconds, 1, 1) });
  view.label.textContent = isStale && view.bornAt !== -Infinity ? `${t("picture.stale")} · ${text}` : text;
}

setInterval(() => {
  views.forEach(tellAge);
  if (lostFor()) socket?.close(); // because a link that hangs has no end of its own
}, 200);

function draw(canvas, bitmap, found) {
  // As fine as the screen, so that words on a small picture are as sharp as on a large one.
  const width = Math.max(bitmap.width, Math.round(canvas.clientWidth * devicePixelRatio));
  const height = Math.round((width * bitmap.height) / bitmap.width);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0, width, height);
  if (!found) return;
  const scale = width / found.width;
  const unit = Math.max(1, width / 400);
  // Words of at least 10 pixels of the page, which a tile's own scale would make smaller.
  const words = Math.max(7 * unit, (10 * width) / (canvas.clientWidth || width));
  pen.font = `600 ${Math.round(words)}px system-ui, sans-serif`;
  pen.lineJoin = "round";
  for (const one of found.objects) drawObject(pen, one, scale, unit, words);
  if (found.top) drawClasses(pen, found.top, words);
}

function drawObject(pen, one, scale, unit, words) {
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
  write(pen, `${one.label} ${Math.round(one.score * 100)} %`, x * scale, y * scale, colour, words);
}

function drawClasses(pen, top, words) {
  top.slice(0, 3).forEach((one, row) => {
    const text = `${one.label} ${Math.round(one.score * 100)} %`;
    write(pen, text, 0.5 * words, (1.8 + 1.5 * row) * words, COLOURS[one.class % COLOURS.length], words);
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

function write(pen, text, x, y, colour, words) {
  const width = pen.measureText(text).width + 0.6 * words;
  const height = 1.3 * words;
  const left = Math.max(0, Math.min(x, pen.canvas.width - width));
  const top = Math.max(0, y - height);
  pen.fillStyle = colour;
  pen.fillRect(left, top, width, height);
  pen.fillStyle = "#000";
  pen.fillText(text, left + 0.3 * words, top + words);
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
