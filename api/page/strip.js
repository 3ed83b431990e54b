// Layers × formats as a heat strip: one column for each layer, one row for each format, the most bits on top.
import { between, colour } from "./paint.js";
import { plain, quantity } from "./numbers.js";
import { blockOf } from "./front.js";

const ROW = 24;
const GUTTER = 74;
const FOOT = 20;

/** Make a strip in a box; `onRead` is told what to say about the layer that is pointed at. */
export function strip(box, onRead) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  box.replaceChildren(canvas);
  let shown = null;
  let cursor = -1;
  const draw = () => { if (shown) paint(canvas, box, shown, cursor); };
  const move = (to) => {
    if (!shown) return;
    cursor = Math.max(0, Math.min(shown.front.layers.length - 1, to));
    draw();
    onRead(said(shown, cursor));
  };
  const keys = { ArrowRight: () => cursor + 1, ArrowLeft: () => cursor - 1, Home: () => 0, End: () => Infinity, PageDown: () => cursor + 10, PageUp: () => cursor - 10 };
  box.addEventListener("keydown", (event) => {
    if (keys[event.key]) { event.preventDefault(); move(keys[event.key]()); }
  });
  box.addEventListener("pointermove", (event) => {
    const x = event.clientX - canvas.getBoundingClientRect().left - GUTTER;
    if (shown && x >= 0) move(Math.floor((x / (canvas.clientWidth - GUTTER)) * shown.front.layers.length));
  });
  box.addEventListener("pointerleave", () => { cursor = -1; draw(); });
  box.addEventListener("focus", () => { if (cursor < 0) move(0); });
  new ResizeObserver(draw).observe(box);
  return { show: (what) => { shown = what; draw(); if (cursor >= 0) onRead(said(what, cursor)); }, draw };
}

/** What a cell costs, between 0 for the best and 1 for the worst entry of the table, on a scale of logarithms. */
export function heats(table) {
  const sign = table.better === "higher" ? -1 : 1;
  const known = table.values.flat().filter((value) => value !== null).map((value) => sign * value);
  const positive = known.filter((value) => value > 0);
  const log = sign > 0 && positive.length > 0;
  const scale = log ? (value) => Math.log(Math.max(value, low)) : (value) => value;
  const sorted = (log ? positive : known).sort((a, b) => a - b);
  const low = sorted[Math.floor(sorted.length * 0.02)] ?? 0; // the very least would stretch the scale
  const [from, to] = [scale(low), scale(sorted.at(-1) ?? 1)];
  const share = (value) => (value === null ? null : Math.max(0, Math.min(1, (scale(sign * value) - from) / (to - from || 1))));
  return table.values.map((row) => row.map(share));
}

function paint(canvas, box, shown, cursor) {
  const { front, plan, order, colours, kept } = shown;
  const width = box.clientWidth;
  const each = (width - GUTTER) / front.layers.length;
  const height = ROW * (order.length + 1) + FOOT;
  const ctx = sized(canvas, width, height);
  ctx.drawImage(ground(shown, width, height, each), 0, 0, width, height);
  const rows = new Map(order.map((format, row) => [format, row]));
  const [ink, low, high] = [colour("ink"), colour("heat-low"), colour("heat-high")];
  const cell = (at, row, fill, inset) => {
    ctx.fillStyle = fill;
    ctx.fillRect(GUTTER + at * each + inset, row * ROW + inset, Math.max(each - 2 * inset, 0.5), ROW - 2 * inset);
  };
  plan.forEach((format, at) => {
    if (each > 5) cell(at, rows.get(format), ink, 0);
    cell(at, rows.get(format), colours[format], each > 5 ? 2 : 0);
  });
  if (kept) {
    ctx.fillStyle = colour("soft");
    ctx.fillText("unsure", 0, (order.length + 0.5) * ROW, GUTTER - 8);
    kept.forEach((share, at) => cell(at, order.length, between(high, low, share), each > 8 ? 1 : 0));
  }
  if (cursor >= 0) {
    ctx.strokeStyle = colour("now");
    ctx.lineWidth = 2;
    ctx.strokeRect(GUTTER + cursor * each, 1, Math.max(each, 2), height - FOOT - 2);
  }
}

function sized(canvas, width, height) {
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  canvas.style.height = `${height}px`;
  const ctx = canvas.getContext("2d");
  ctx.scale(devicePixelRatio, devicePixelRatio);
  ctx.font = "12px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  return ctx;
}

let drawn = { of: null, canvas: null };

// What no budget changes: the shades and the names. Kept until heat, width or colours change.
function ground({ front, heat, order }, width, height, each) {
  const key = [width, colour("card"), devicePixelRatio].join();
  if (drawn.of === heat && drawn.key === key) return drawn.canvas;
  const canvas = document.createElement("canvas");
  const ctx = sized(canvas, width, height);
  const [low, high, empty] = [colour("heat-low"), colour("heat-high"), colour("card")];
  const shades = Array.from({ length: 65 }, (_, at) => between(low, high, at / 64));
  const inset = each > 8 ? 1 : 0;
  order.forEach((format, row) => front.layers.forEach((_, at) => {
    const share = heat[at][format];
    ctx.fillStyle = share === null ? empty : shades[Math.round(share * 64)];
    ctx.fillRect(GUTTER + at * each + inset, row * ROW + inset, Math.max(each - 2 * inset, 0.5), ROW - 2 * inset);
  }));
  ctx.fillStyle = colour("soft");
  order.forEach((format, row) => ctx.fillText(front.formats[format], 0, (row + 0.5) * ROW, GUTTER - 8));
  blocks(ctx, front, each, height);
  drawn = { of: heat, key, canvas };
  return canvas;
}

function blocks(ctx, front, each, height) {
  const starts = front.layers.flatMap((name, at) => (at === 0 || blockOf(name) !== blockOf(front.layers[at - 1]) ? [at] : []));
  let free = -Infinity;
  starts.forEach((at, index) => {
    const x = GUTTER + at * each;
    const end = GUTTER + (starts[index + 1] ?? front.layers.length) * each;
    const label = blockOf(front.layers[at]).split(".").at(-1);
    const width = ctx.measureText(label).width;
    const numbered = /^\d+$/.test(label); // a number says where one is even where it is wider than its block
    if (x < free || (!numbered && x + width + 8 > end && starts.length > 1)) return;
    ctx.fillStyle = colour("soft");
    ctx.fillRect(x, height - FOOT, 1, FOOT - 6);
    ctx.fillText(label, x + 5, height - FOOT / 2 + 1);
    free = x + width + 12;
  });
}

function said({ front, plan, profile, objective, resource, kept }, at) {
  const format = plan[at];
  const cost = profile.costs[objective]?.values[at][format];
  const spent = profile.resources[resource];
  return [`${front.layers[at]}: ${front.formats[format]}`, cost === undefined ? null : `${objective} ${plain(cost, 3)}`,
    spent ? quantity(spent.values[at][format], spent.unit) : null,
    kept ? `kept in ${Math.round(kept[at] * 100)} % of resamples` : null].filter(Boolean).join(" · ");
}
