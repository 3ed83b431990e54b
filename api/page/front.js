// The front as the service sends it: the lightest plan and the changes that lead from it to the best one.

/** How many steps a budget pays for; -1 where even the lightest plan spends more. */
export function stepsWithin(front, budget) {
  const most = budget * (1 + 1e-12);
  let low = 0;
  let high = front.spend.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (front.spend[middle] <= most) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The index of each layer's format after some steps. */
export function planAfter(front, steps) {
  const plan = Int32Array.from(front.start);
  for (let at = 0; at < front.step.length && front.step[at] <= steps; at += 1) plan[front.layer[at]] = front.format[at];
  return plan;
}

/** An assignment by name as indices of formats. */
export function indices(front, assignment) {
  const columns = new Map(front.formats.map((name, at) => [name, at]));
  return Int32Array.from(front.layers, (name) => columns.get(assignment[name]));
}

/** The block of a layer: its name up to the first number, or up to its last part where there is none. */
export function blockOf(name) {
  const parts = name.split(".");
  const number = parts.findIndex((part) => /^\d+$/.test(part));
  return number >= 0 ? parts.slice(0, number + 1).join(".") : parts.slice(0, -1).join(".") || name;
}

/** What each block spends in each format: [{block, total, spends: [per format]}], in the order of the layers. */
export function byBlock(profile, plan, resource) {
  const table = profile.resources[resource];
  const blocks = new Map();
  profile.layers.forEach((layer, at) => {
    const block = blockOf(layer.name);
    if (!blocks.has(block)) blocks.set(block, { block, total: 0, spends: new Float64Array(Object.keys(profile.formats).length) });
    const entry = blocks.get(block);
    const spend = table.values[at][plan[at]] ?? 0;
    entry.spends[plan[at]] += spend;
    entry.total += spend;
  });
  return [...blocks.values()];
}

/** Names without the beginning that all of them share, for labels. */
export function shortened(names) {
  const split = names.map((name) => name.split("."));
  let shared = 0;
  while (split.every((parts) => parts.length > shared + 1 && parts[shared] === split[0][shared])) shared += 1;
  return split.map((parts) => parts.slice(shared).join("."));
}

/** Name → the same without the beginning that all of them share. */
export function labelled(names) {
  const short = shortened(names);
  return new Map(names.map((name, at) => [name, short[at]]));
}
