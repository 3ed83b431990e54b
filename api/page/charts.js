// The two charts: the front, and what a unit of budget buys along it.
/* global uPlot */
import { colour } from "./paint.js";
import { plain, quantity, step } from "./numbers.js";

const LEFT = 70;
const RIGHT = 20;

/** Marks of the methods, by shape and colour alike: drawn on the canvas and in the legend. */
export const MARKS = {
  uniform: { colour: "uniform", path: (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z` },
  greedy: { colour: "greedy", path: (r) => `M0 ${-1.2 * r}L${1.15 * r} ${r}H${-1.15 * r}Z` },
  knee: { colour: "knee", path: star },
};

function star(r) {
  const points = Array.from({ length: 10 }, (_, at) => {
    const radius = (at % 2 ? 0.55 : 1.4) * r;
    const angle = (Math.PI * at) / 5;
    return `${(radius * Math.sin(angle)).toFixed(2)} ${(-radius * Math.cos(angle)).toFixed(2)}`;
  });
  return `M${points.join("L")}Z`;
}

/** Draw the front; `onPick` is told the budget that is pointed at, `onEnds` where the front begins and ends in the box. */
export function frontChart(box, front, onPick, onEnds) {
  const byteScale = front.unit === "byte";
  const values = [...front.objective, ...marks(front).map((mark) => mark.objective)];
  const spends = [...front.spend, ...marks(front).map((mark) => mark.spend)];
  const [least, most] = ends(values);
  const log = least > 0 && most / least > 20;
  const chart = new uPlot({
    ...frame(box),
    scales: { x: { time: false, range: padded(spends, false) }, y: { distr: log ? 3 : 1, range: padded(values, log) } },
    series: [{}, { stroke: colour("supported"), width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: front.spend.length < 400, size: 5, fill: colour("supported") } }],
    axes: axes((value) => (byteScale ? quantity(value, "byte", 3) : plain(value, 3)), log),
    hooks: { draw: [(self) => drawMarks(self, front)] },
  }, [front.spend, front.objective], box);
  const place = () => onEnds(...[front.spend[0], front.spend.at(-1)].map((spend) => LEFT + chart.valToPos(spend, "x")));
  return withMarker(chart, box, (x) => onPick(chart.posToVal(x, "x")), place);
}

/** Draw what a unit of budget buys, falling along the front. */
export function priceChart(box, front) {
  const unit = step(front.unit, front.spend.at(-1) - front.spend[0]);
  const prices = front.price.map((price) => price * unit.amount);
  const log = prices.length > 1 && prices.at(-1) > 0 && prices[0] / prices.at(-1) > 20;
  const chart = new uPlot({
    ...frame(box),
    scales: { x: { time: false, range: padded(front.spend, false) }, y: { distr: log ? 3 : 1, range: padded(prices, log) } },
    series: [{}, { stroke: colour("supported"), width: 2, fill: `${colour("supported")}22`, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }],
    axes: axes((value) => (front.unit === "byte" ? quantity(value, "byte", 3) : plain(value, 3)), log),
  }, [front.spend, [...prices, prices.at(-1) ?? null]], box);
  return withMarker(chart, box, null, () => {});
}

function frame(box) {
  return { width: box.clientWidth || 600, height: box.clientHeight, padding: [10, RIGHT, 0, 0], legend: { show: false },
    cursor: { show: false, drag: { x: false, y: false } } };
}

function axes(shown, log) {
  const common = { stroke: colour("soft"), font: "12px system-ui, sans-serif", grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
  const decade = (value) => (value === null ? "" : plain(value, 2));
  return [{ ...common, size: 34, space: 90, values: (_, all) => all.map(shown) },
    { ...common, size: LEFT, space: 34, values: (_, all) => all.map((value) => (log ? decade(value) : plain(value, 3))) }];
}

// Fronts of large models have more values than a function takes arguments.
const ends = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

function padded(values, log) {
  const [low, high] = ends(values);
  if (log) return [low / 1.25, high * 1.25];
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  return [low - room, high + room];
}

export function marks(front) {
  const others = Object.entries(front.baselines).flatMap(([method, reached]) => reached.map((point) => ({ method, ...point })));
  return [...others, { method: "knee", spend: front.spend[front.knee], objective: front.objective[front.knee] }];
}

function drawMarks(chart, front) {
  const ratio = devicePixelRatio;
  for (const { method, spend, objective } of marks(front)) {
    const { colour: name, path } = MARKS[method];
    chart.ctx.save();
    chart.ctx.translate(chart.valToPos(spend, "x", true), chart.valToPos(objective, "y", true));
    chart.ctx.fillStyle = colour(name);
    chart.ctx.strokeStyle = colour("card");
    chart.ctx.lineWidth = ratio;
    const shape = new Path2D(path((method === "knee" ? 7 : 4.5) * ratio));
    chart.ctx.fill(shape);
    chart.ctx.stroke(shape);
    chart.ctx.restore();
  }
}

// A line and a ring at the plan that is shown; they move without the chart being drawn again.
function withMarker(chart, box, onPoint, onPlace) {
  const line = document.createElement("div");
  const dot = document.createElement("div");
  line.className = "now-line";
  dot.className = "now-dot";
  chart.over.append(line, dot);
  const point = (event) => onPoint(event.clientX - chart.over.getBoundingClientRect().left);
  if (onPoint) {
    chart.over.addEventListener("pointerdown", (event) => { chart.over.setPointerCapture(event.pointerId); point(event); });
    chart.over.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
  }
  let shown = null;
  const place = () => {
    onPlace();
    if (!shown) return;
    line.style.transform = `translateX(${chart.valToPos(shown.budget, "x") - 1}px)`;
    dot.style.transform = `translate(${chart.valToPos(shown.spend, "x")}px, ${chart.valToPos(shown.value, "y")}px)`;
  };
  const watcher = new ResizeObserver(() => { chart.setSize({ width: box.clientWidth, height: box.clientHeight }); place(); });
  watcher.observe(box);
  return {
    show: (budget, spend, value) => { shown = { budget, spend, value }; place(); },
    destroy: () => { watcher.disconnect(); chart.destroy(); },
  };
}
