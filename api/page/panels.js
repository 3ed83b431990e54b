// What the cards say about the plan that is shown.
import { breakable, element, table } from "./paint.js";
import { percent, plain, quantity, step } from "./numbers.js";
import { byBlock, labelled, shortened } from "./front.js";
import { MARKS } from "./charts.js";

const MOST_BLOCKS = 80;
const $ = (id) => document.getElementById(id);

/** The legend of the front. */
export function legend(front) {
  const mark = (name) => element("svg", { viewBox: "-9 -9 18 18", "aria-hidden": "true" },
    element("path", { d: MARKS[name].path(name === "knee" ? 6 : 5), fill: `var(--${MARKS[name].colour})` }));
  const line = element("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" },
    element("path", { d: "M0 4H8V12H16", fill: "none", stroke: "var(--supported)", "stroke-width": "2.5" }));
  const ring = element("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" },
    element("circle", { cx: 8, cy: 8, r: 5.5, fill: "none", stroke: "var(--now)", "stroke-width": "3" }));
  const entries = [[line, "best plans"], ...Object.keys(front.baselines).map((name) => [mark(name), name]), [mark("knee"), "knee"], [ring, "this plan"]];
  $("legend").replaceChildren(...entries.map(([drawn, text]) => element("li", {}, drawn, text)));
}

/** The formats and their colours, the fewest bits first. */
export function formatLegend(front, order, colours) {
  $("formats").replaceChildren(...[...order].reverse().map((format) => element("li", {},
    element("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, element("rect", { x: 1, y: 2, width: 14, height: 12, rx: 3, fill: colours[format] })),
    front.formats[format])));
}

/** The figures of the plan. */
export function figures({ front, profile, plan, budget, steps, spend, value, exact }) {
  const name = front.objective_name;
  const entries = [
    [name, plain(value, 4), null],
    ["used", quantity(spend, front.unit), `of ${quantity(budget, front.unit)}`],
  ];
  const bits = effectiveBits(profile, plan);
  if (bits !== null && front.resource !== "effective_bits") entries.push(["bits per weight", plain(bits, 3), "stored"]);
  const weightBytes = profile.resources.weight_bytes;
  if (weightBytes && front.resource !== "weight_bytes") {
    entries.push(["weight_bytes", quantity(total(weightBytes, plan), weightBytes.unit), null]);
  }
  entries.push(["gap to the bound", exact ? (exact.gap === 0 ? "0" : plain(exact.gap, 2)) : "…", exact?.gap === 0 ? "nothing is better" : null]);
  const unit = step(front.unit, front.spend.at(-1) - front.spend[0]);
  const each = exact ? exact.usage[front.resource].shadow_price : front.price[steps] ?? 0;
  if (each !== null) entries.push([`one more ${unit.name} buys`, `${front.maximise ? "+" : "−"}${plain(each * unit.amount, 3)}`, "at the margin"]);
  $("figures").replaceChildren(...entries.map(([term, text, more]) => element("div", {}, element("dt", {}, term),
    element("dd", {}, text, more ? element("small", {}, ` ${more}`) : null))));
  const proof = $("proof");
  proof.textContent = exact ? (exact.status === "optimal" ? "proved optimal" : exact.status) : "on the front";
  proof.className = `badge ${exact ? (exact.status === "optimal" ? "good" : "warn") : ""}`;
}

/** What else to know of a proved plan, warnings first; nothing before it is proved. */
export function notes(exact) {
  const found = [...(exact?.notes ?? [])].sort((a, b) => (a.severity === "warning" ? 0 : 1) - (b.severity === "warning" ? 0 : 1));
  $("notes").replaceChildren(...found.map((note) => element("li", { class: note.severity }, `${note.severity}: ${note.text}`)));
}

const total = (resource, plan) => resource.values.reduce((sum, row, at) => sum + (row[plan[at]] ?? 0), resource.constant ?? 0);

function effectiveBits(profile, plan) {
  const bytes = profile.resources.weight_bytes;
  const weights = profile.layers.map((layer) => ((layer.kind ?? "weight") === "weight" ? layer.parameters : 0));
  if (!bytes || weights.some((count) => count === null || count === undefined)) return null;
  const stored = bytes.values.reduce((sum, row, at) => sum + (weights[at] ? row[plan[at]] ?? 0 : 0), 0);
  return (8 * stored) / weights.reduce((sum, count) => sum + count, 0);
}

/** What the next unit of budget buys, at a step of the front. */
export function price({ front, steps }) {
  const unit = step(front.unit, front.spend.at(-1) - front.spend[0]);
  const next = front.price[steps];
  const now = $("price-now");
  if (next === undefined) {
    now.textContent = "nothing left to buy";
    $("price-says").textContent = "This is the best plan that any budget buys.";
    return;
  }
  now.textContent = `${front.maximise ? "+" : "−"}${plain(next * unit.amount, 3)} ${front.objective_name} per ${unit.name}`;
  const [change] = changesAt(front, steps + 1);
  $("price-says").textContent = `The next step costs ${quantity(front.spend[steps + 1] - front.spend[steps], front.unit)}: ${change}.`;
}

function changesAt(front, at) {
  const found = [];
  for (let index = front.step.indexOf(at); front.step[index] === at; index += 1) {
    found.push(`${front.layers[front.layer[index]]} to ${front.formats[front.format[index]]}`);
  }
  return found.length > 1 ? [`${found[0]} and ${found.length - 1} more`] : found;
}

/** Bytes by block as bars, one colour for each format. */
export function blocks({ front, profile, plan, order, colours }) {
  const name = profile.resources[front.resource] ? front.resource : Object.keys(profile.resources)[0];
  if (!name) { $("blocks").textContent = "The profile has no resources."; return; }
  const unit = profile.resources[name].unit;
  $("blocks-title").textContent = unit === "byte" ? "Bytes by block" : `${name} by block`;
  const found = byBlock(profile, plan, name);
  const labels = shortened(found.map((entry) => entry.block));
  const most = Math.max(...found.map((entry) => entry.total));
  const rows = found.slice(0, MOST_BLOCKS).map((entry, at) => {
    let left = 0;
    const parts = [...order].reverse().filter((format) => entry.spends[format] > 0).map((format) => {
      const width = (100 * entry.spends[format]) / most;
      left += width;
      return element("rect", { x: left - width, y: 0, width, height: 16, fill: colours[format] });
    });
    const made = [...order].reverse().filter((format) => entry.spends[format] > 0).map((format) => `${front.formats[format]} ${quantity(entry.spends[format], unit)}`).join(", ");
    return element("div", { class: "block" }, element("span", { title: entry.block }, labels[at]),
      element("svg", { viewBox: "0 0 100 16", preserveAspectRatio: "none", role: "img", "aria-label": made }, element("title", {}, made), ...parts),
      element("span", {}, quantity(entry.total, unit)));
  });
  const more = found.length > MOST_BLOCKS ? [element("p", { class: "hint" }, `and ${found.length - MOST_BLOCKS} more blocks, in the table of the plan`)] : [];
  $("blocks").replaceChildren(...rows, ...more);
}

/** Next change and simple rules, from an explanation. */
export function reasons(why) {
  const best = why.allocation.objective;
  const times = (rule) => (!rule.difference ? "as good" : rule.worse_by > 0 && rule.objective > best ? `${plain(rule.objective / best, 3)} ×` : `${plain(Math.abs(rule.difference), 3)} ${rule.difference > 0 ? "worse" : "better"}`);
  const worse = (rule) => (rule.objective === null ? "no plan in this budget" : `${plain(rule.objective, 4)} · ${times(rule)}`);
  $("baselines").replaceChildren(...Object.entries(why.baselines).map(([name, rule]) => element("li", {}, element("span", {}, name), element("b", {}, worse(rule)))));
  const next = why.next_upgrade;
  $("next").textContent = next === null ? "" : `Best next upgrade: ${Object.entries(next.changes).map(([layer, format]) => `${breakable(layer)} to ${format}`).join(", ")} (${why.allocation.objective_name} ${next.objective > 0 ? "+" : "−"}${plain(Math.abs(next.objective), 3)})`;
}

/** How sure the plan is, from an explanation; null where the table has no standard errors. */
export function sure(found, objective, profile) {
  const now = $("sure-now");
  if (found === null) {
    now.textContent = "";
    const reason = profile.costs[objective]?.stderr
      ? `The table ${objective} has standard errors, but drawing it again takes too long here for ${profile.layers.length} layers: ask bitalloc explain with --resamples.`
      : `The table ${objective} has no standard errors. Measured tables have them, and then this says how often each layer keeps its format when the table is drawn again.`;
    $("sure").replaceChildren(element("p", { class: "hint" }, reason));
    return;
  }
  const firm = found.layers.filter((layer) => layer.kept >= 0.95).length;
  now.textContent = `${firm} of ${found.layers.length} layers are firm`;
  const doubtful = [...found.layers].sort((a, b) => a.kept - b.kept).filter((layer) => layer.kept < 1).slice(0, 6);
  const labels = labelled(found.layers.map((layer) => layer.layer));
  const rows = doubtful.map((layer) => element("li", { class: "meter" }, element("span", { title: layer.layer }, labels.get(layer.layer)),
    element("meter", { min: 0, max: 1, low: 0.6, high: 0.9, optimum: 1, value: layer.kept, "aria-label": `${layer.layer} keeps ${layer.format}` }), element("span", {}, percent(layer.kept))));
  $("sure").replaceChildren(element("div", { class: "sure" },
    element("p", {}, `Drawn again ${found.resamples} times from its standard errors, the table gives the same plan ${percent(found.kept)} of the time; this plan is ${plain(found.regret, 2)} worse than the best of a draw on average.`),
    rows.length ? element("h3", {}, "Layers that change most") : null, rows.length ? element("ol", {}, ...rows) : null,
    found.measure_next.length ? element("p", { class: "hint" }, `Measure next: ${found.measure_next.slice(0, 3).map((name) => labels.get(name)).join(", ")}`) : null));
}

/** The text alternatives of front and strip. */
export function tables({ front, plan, profile, kept }) {
  const unit = profile.resources[front.resource]?.unit ?? front.unit;
  const exact = front.exact.filter((point) => point.objective !== null).map((point) => {
    const usage = point.usage[front.resource];
    return [quantity(usage.limit, unit), quantity(usage.used, unit), plain(point.objective, 5), point.status,
      ...Object.values(front.baselines).map((reached) => plain(reached.find((other) => other.budget === usage.limit)?.objective, 5))];
  });
  $("front-table").replaceChildren(table([`${front.resource}, at most`, "used", front.objective_name, "status", ...Object.keys(front.baselines)], exact, "Best plans at equally spaced budgets"));
  const spent = profile.resources[front.resource] ?? Object.values(profile.resources)[0];
  const cost = profile.costs[front.objective_name];
  const rows = front.layers.slice(0, 2000).map((name, at) => [name, front.formats[plan[at]], cost ? plain(cost.values[at][plan[at]], 3) : "–", spent ? quantity(spent.values[at][plan[at]], spent.unit) : "–",
    ...(kept ? [percent(kept[at])] : [])]);
  $("plan-table").replaceChildren(table(["layer", "format", front.objective_name, "spend", ...(kept ? ["kept"] : [])], rows, "The format of every layer"));
}
