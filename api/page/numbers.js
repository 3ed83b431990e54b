// Numbers as people read them.

const STEPS = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

/** A quantity with its unit: 8123456 byte → "8.12 MB". */
export function quantity(value, unit, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (unit !== "byte") return `${plain(value, digits + 1)}${unit ? ` ${unit}` : ""}`;
  const [scale, name] = STEPS.find(([size]) => Math.abs(value) >= size) ?? [1, "B"];
  return `${plain(value / scale, digits)} ${name}`;
}

/** A number with few digits, without an exponent where that is short. */
export function plain(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(digits - 1).replace(/\.?0*e\+?/, "e").replace("-", "−").replace("e-", "e−");
  return new Intl.NumberFormat("en", { maximumSignificantDigits: Math.max(digits, Math.ceil(Math.log10(size + 1))) }).format(value).replace("-", "−");
}

/** The step that one talks of for a unit: bytes are bought by the megabyte (or less for small models). */
export function step(unit, range) {
  if (unit !== "byte") return { amount: 1, name: unit || "unit" };
  if (range > 2e9) return { amount: 1e9, name: "GB" };
  return range > 2e6 ? { amount: 1e6, name: "MB" } : { amount: 1e3, name: "kB" };
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.1 ? 1 : 0)} %`;

/** An amount as the service reads it back: no thousands separators, plain signs, the table's own unit. */
export function amountText(value, unit, digits = 4) {
  const [scale, name] = unit === "byte" ? STEPS.find(([size]) => Math.abs(value) >= size) ?? [1, "B"] : [1, unit];
  const number = value / scale;
  const shown = Math.max(digits, Math.ceil(Math.log10(Math.abs(number) + 1)));
  return `${Number(number.toPrecision(Math.min(shown, 17)))}${name ? ` ${name}` : ""}`;
}
