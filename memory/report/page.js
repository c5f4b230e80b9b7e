"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { name, bytes, offset, birth, death, operation, line, held } = data.buffers;
const end = death.reduce((most, time) => Math.max(most, time), 1);
const height = Math.max(data.heap_bytes, data.lower_bound, 1);
const INK = "#222";
const LEFT = 84, RIGHT = 10, TOP = 16, CURVE = 120, GAP = 36, BOTTOM = 26;

const canvas = document.getElementById("picture");
const hint = document.getElementById("hint");
const matched = document.getElementById("matched");
const search = document.getElementById("search");
const texts = name.map((id, at) =>
  `${id}\n${data.operations[operation[at]]}\n${data.lines[line[at]].line}`.toLowerCase());
// Those with an outline are drawn above the edges of their neighbours.
const order = name.map((_, at) => at).sort((a, b) => held[a] - held[b]);

const view = { from: 0, to: end };
let chosen = -1, wanted = "", under = -1, dragged = null, waiting = false;

function bytesText(count) {
  if (Math.abs(count) < 1024) return `${count} B`;
  let unit = "";
  for (unit of ["KiB", "MiB", "GiB", "TiB"]) {
    count /= 1024;
    if (Math.abs(count) < 1024) break;
  }
  return `${count.toFixed(1)} ${unit}`;
}

// Of the place on the page, in CSS pixels.
function frame() {
  const wide = canvas.clientWidth, high = canvas.clientHeight;
  return { left: LEFT, right: wide - RIGHT, top: TOP + CURVE + GAP, bottom: high - BOTTOM, wide, high };
}

function across(time, box) {
  return box.left + (time - view.from) / (view.to - view.from) * (box.right - box.left);
}

function up(size, box) {
  return box.bottom - size / height * (box.bottom - box.top);
}

function upCurve(size) {
  return TOP + CURVE - size / height * CURVE;
}

function timeAt(x, box) {
  return view.from + (x - box.left) / (box.right - box.left) * (view.to - view.from);
}

function matches(at) {
  return (chosen < 0 || line[at] === chosen) && (!wanted || texts[at].includes(wanted));
}

function drawBoxes(pen, box) {
  const all = chosen < 0 && !wanted;
  for (const at of order) {
    if (death[at] <= view.from || birth[at] >= view.to) continue;
    const x = across(birth[at], box), y = up(offset[at] + bytes[at], box);
    const wide = Math.max(across(death[at], box) - x, 1), high = Math.max(up(offset[at], box) - y, 1);
    pen.globalAlpha = all || matches(at) ? 1 : 0.1;
    pen.fillStyle = data.lines[line[at]].color;
    pen.fillRect(x, y, wide, high);
    const side = Math.min(wide, high);
    if (at === under || (side > 4 && pen.globalAlpha === 1)) {
      pen.strokeStyle = at === under || held[at] ? INK : "#fff";
      pen.lineWidth = at === under ? 2 : held[at] ? Math.min(1.2, side / 8) : 0.4;
      pen.strokeRect(x, y, wide, high);
    }
  }
  pen.globalAlpha = 1;
}

function drawCurve(pen, box) {
  pen.beginPath();
  pen.moveTo(across(0, box), upCurve(0));
  let last = 0;
  for (const [time, size] of data.live) {
    pen.lineTo(across(time, box), upCurve(last));
    pen.lineTo(across(time, box), upCurve(size));
    last = size;
  }
  pen.fillStyle = "#dcd7d4";
  pen.fill();
  pen.strokeStyle = INK;
  pen.lineWidth = 0.8;
  pen.stroke();
}

function dashed(pen, dash, x0, y0, x1, y1) {
  pen.setLineDash(dash);
  pen.lineWidth = 1;
  pen.strokeStyle = INK;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
  pen.setLineDash([]);
}

function drawLevels(pen, box) {
  const bound = data.lower_bound, heap = data.heap_bytes;
  const close = heap - bound <= 0.01 * heap;
  pen.fillStyle = INK;
  pen.textAlign = "right";
  dashed(pen, [5, 4], box.left, upCurve(heap), box.right, upCurve(heap));
  const text = `heap ${bytesText(heap)}`, least = `lower bound ${bytesText(bound)}`;
  pen.fillText(close ? `${text}, ${least}` : text, box.right, upCurve(heap) - 4);
  if (!close) {
    dashed(pen, [5, 4], box.left, upCurve(bound), box.right, upCurve(bound));
    pen.fillText(least, box.right, upCurve(bound) + 12);
  }
  const time = (data.fullest.from_step + data.fullest.to_step) / 2;
  dashed(pen, [2, 3], across(time, box), TOP, across(time, box), box.bottom);
}

function drawAxes(pen, box) {
  pen.fillStyle = INK;
  pen.textAlign = "center";
  const rough = (view.to - view.from) / 10, ten = 10 ** Math.floor(Math.log10(rough));
  const apart = Math.max(1, [1, 2, 5, 10].map((n) => n * ten).find((n) => n >= rough));
  for (let time = Math.ceil(view.from / apart) * apart; time <= view.to; time += apart) {
    pen.fillRect(across(time, box), box.bottom, 1, 4);
    pen.fillText(String(time), across(time, box), box.bottom + 17);
  }
  pen.textAlign = "right";
  const size = Math.max(1, 2 ** Math.ceil(Math.log2(height / 6)));
  for (let at = 0; at <= height; at += size) {
    pen.fillRect(box.left - 4, up(at, box), 4, 1);
    pen.fillText(bytesText(at).replace(".0 ", " "), box.left - 8, up(at, box) + 4);
  }
  pen.fillText("0 B", box.left - 8, upCurve(0) + 4);
  pen.fillText("bytes live", box.left - 8, upCurve(height) + 4);
  pen.fillRect(box.left - 1, TOP, 1, CURVE);
  pen.fillRect(box.left - 1, box.top, 1, box.bottom - box.top);
}

function paint() {
  waiting = false;
  const box = frame(), scale = window.devicePixelRatio || 1;
  canvas.width = box.wide * scale;
  canvas.height = box.high * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "12px system-ui, sans-serif";
  pen.save();
  pen.beginPath();
  pen.rect(box.left, 0, box.right - box.left, box.bottom);
  pen.clip();
  drawCurve(pen, box);
  drawBoxes(pen, box);
  drawLevels(pen, box);
  pen.restore();
  drawAxes(pen, box);
}

function repaint() {
  if (!waiting) requestAnimationFrame(paint);
  waiting = true;
}

function show(from, to) {
  const span = Math.min(Math.max(to - from, 4), end);
  view.from = Math.min(Math.max(from, 0), end - span);
  view.to = view.from + span;
  repaint();
}

// The buffer under a point, or the nearest above or below it: thin ones are hard to hit.
function bufferAt(x, y) {
  const box = frame(), time = timeAt(x, box), pixel = height / (box.bottom - box.top);
  const place = (box.bottom - y) * pixel;
  let found = -1, least = 3 * pixel;
  for (const at of order) {
    if (time < birth[at] || time >= death[at] || !matches(at)) continue;
    const away = Math.max(offset[at] - place, place - offset[at] - bytes[at], 0);
    if (away < least) [found, least] = [at, away];
  }
  return found;
}

function describe(at) {
  const group = data.lines[line[at]];
  return [
    name[at],
    `${bytesText(bytes[at])} (${bytes[at].toLocaleString("en")} bytes) at offset ${offset[at].toLocaleString("en")}`,
    `steps ${birth[at]} to ${death[at]}${held[at] ? ", live at the peak" : ""}`,
    data.operations[operation[at]],
    group.line,
  ].filter(Boolean).join("\n");
}

function point(event) {
  const at = bufferAt(event.offsetX, event.offsetY);
  hint.hidden = at < 0;
  if (at >= 0) {
    hint.textContent = describe(at);
    hint.style.left = `${Math.min(event.clientX + 14, window.innerWidth - hint.offsetWidth - 8)}px`;
    hint.style.top = `${Math.min(event.clientY + 14, window.innerHeight - hint.offsetHeight - 8)}px`;
  }
  if (at !== under) {
    under = at;
    repaint();
  }
}

function count() {
  matched.textContent = "";
  if (chosen >= 0 || wanted) {
    const all = order.filter(matches), sum = (list) => list.reduce((total, at) => total + bytes[at], 0);
    const live = all.filter((at) => held[at]);
    matched.textContent = `${all.length} buffers; at the peak ${live.length}, ${bytesText(sum(live))}`;
  }
  repaint();
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const time = timeAt(event.offsetX, frame()), factor = Math.exp(event.deltaY / 400);
  show(time - (time - view.from) * factor, time + (view.to - time) * factor);
}, { passive: false });
canvas.addEventListener("pointerdown", (event) => {
  dragged = { x: event.offsetX, from: view.from, to: view.to };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!dragged) return point(event);
  const box = frame();
  const moved = (dragged.x - event.offsetX) / (box.right - box.left) * (dragged.to - dragged.from);
  show(dragged.from + moved, dragged.to + moved);
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, () => { dragged = null; });
}
canvas.addEventListener("pointerleave", () => {
  hint.hidden = true;
  under = -1;
  repaint();
});
document.getElementById("whole").addEventListener("click", () => show(0, end));
document.getElementById("peak").addEventListener("click", () => {
  const { from_step: from, to_step: to } = data.fullest, span = Math.max(end / 10, to - from, 20);
  show((from + to - span) / 2, (from + to + span) / 2);
});
search.addEventListener("input", () => {
  wanted = search.value.trim().toLowerCase();
  count();
});
document.getElementById("lines").addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-line]");
  if (!row) return;
  const at = Number(row.dataset.line);
  chosen = chosen === at ? -1 : at;
  for (const each of document.querySelectorAll("tr[data-line]")) {
    each.classList.toggle("chosen", Number(each.dataset.line) === chosen);
  }
  count();
});
window.addEventListener("resize", repaint);
repaint();
