// Colours: from the style sheet for everything, and a scale for formats that survives colour blindness (viridis).

const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37]];

/** A colour of the style sheet. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** One colour for each format: the more bits, the lighter. */
export function formatColours(formats) {
  const bits = Object.values(formats).map((format) => format.weight_bits);
  const order = bits.map((_, at) => at).sort((a, b) => bits[a] - bits[b] || a - b);
  const colours = new Array(bits.length);
  order.forEach((format, rank) => { colours[format] = viridis(0.12 + (0.85 * rank) / Math.max(bits.length - 1, 1)); });
  return colours;
}

function viridis(share) {
  const at = share * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [a, b] = [VIRIDIS[low], VIRIDIS[low + 1]];
  return `rgb(${a.map((value, i) => Math.round(value + (b[i] - value) * (at - low))).join(" ")})`;
}

/** The colour between two colours of the style sheet (`#rrggbb`). */
export function between(low, high, share) {
  const [a, b] = [low, high].map((text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)));
  return `rgb(${a.map((value, i) => Math.round(value + (b[i] - value) * share)).join(" ")})`;
}

/** Call back when the reader switches between dark and light. */
export const onTheme = (redraw) => matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

/** An element with attributes and children; text is never read as HTML. */
export function element(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "path", "circle", "title"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A name that may break after its dots and underscores rather than anywhere. */
export const breakable = (name) => name.replace(/[._]/g, "$&\u200b");

/** A table of texts: the first column is the row's head. */
export function table(heads, rows, caption) {
  return element("table", {},
    element("caption", { class: "sr" }, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, breakable(head))))),
    element("tbody", {}, ...rows.map(([head, ...cells]) => element("tr", {}, element("th", { scope: "row" }, head),
      ...cells.map((cell) => (cell instanceof Node ? cell : element("td", {}, cell)))))));
}
