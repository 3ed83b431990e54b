// Two cost tables side by side: the plans they lead to at the budget that is shown.
import { element, table } from "./paint.js";
import { plain, quantity } from "./numbers.js";
import { labelled } from "./front.js";

/** Show what the service answers to a comparison. */
export function compared(found, names, profile) {
  const sums = Object.keys(found.first.totals).map((name) => {
    const [first, second] = [found.first.totals[name], found.second.totals[name]];
    const unit = profile.resources[name]?.unit ?? "";
    const higher = profile.costs[name]?.better === "higher";
    const better = first === second || first === null || second === null ? null : (first < second) !== higher ? 0 : 1;
    const cell = (value, at) => element("td", better === at ? { class: "better" } : {}, quantity(value, unit));
    return [name, cell(first, 0), cell(second, 1)];
  });
  const labels = labelled(profile.layers.map((layer) => layer.name));
  const rows = found.layers.map((layer) => [labels.get(layer.layer), layer.first, layer.second, ...names.map((name) => signed(layer.change[name]))]);
  return [
    element("p", {}, summary(found, names)),
    element("div", { class: "pair" },
      scroll("Sums over each plan", table(["summed over the plan", `by ${names[0]}`, `by ${names[1]}`], sums, "Sums of every table over the two plans; the better one is bold")),
      rows.length
        ? scroll("Layers that differ", table(["layer", `by ${names[0]}`, `by ${names[1]}`, ...names.map((name) => `Δ ${name}`)], rows, "Layers that the two plans treat differently"))
        : element("p", { class: "hint" }, "Both tables lead to the same plan.")),
  ];
}

function summary(found, names) {
  const total = found.alike + found.layers.length;
  const alike = `The plans agree on ${found.alike} of ${total} layers.`;
  const { agreement } = found;
  if (!agreement || agreement.kendall === null) return alike;
  const within = agreement.kendall_of_layers === null ? "" : `, and ${agreement.kendall_of_layers.toFixed(2)} over layers of one format`;
  return `${alike} ${names[1]} ranks entries like ${names[0]} with τ = ${agreement.kendall.toFixed(2)} and ρ = ${agreement.spearman.toFixed(2)}${within}.`;
}

const signed = (value) => (value === null || value === undefined ? "–" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${plain(Math.abs(value), 3)}`);
const scroll = (label, content) => element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, content);
