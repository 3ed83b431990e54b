// Taking the plan away: as the allocation itself, as another tool's configuration, and whether a runtime would load it.
import { element } from "./paint.js";
import { exported, linted, runtimes, targets } from "./service.js";

const $ = (id) => document.getElementById(id);

/** Connect the buttons; `current` gives the allocation. */
export function connect(current, attempt) {
  $("download").addEventListener("click", () => attempt(async () => save("plan.json", JSON.stringify({ ...(await current()), id: undefined }, null, 2))));
  $("export").addEventListener("click", () => attempt(exportPlan(current)));
  $("lint").addEventListener("click", () => attempt(lintPlan(current)));
}

/** Fill the lists from the service's registries, once. */
export async function fillLists() {
  if ($("target").length) return;
  fill($("target"), await targets());
  fill($("runtime"), await runtimes());
}

const fill = (select, entries) => select.replaceChildren(...entries.map((entry) => element("option", { value: entry.name }, entry.name)));

const exportPlan = (current) => async () => {
  const done = await exported(await current(), $("target").value);
  for (const [name, text] of Object.entries(done.files)) save(name, text);
  const alike = new Map();
  for (const loss of done.losses) {
    const what = `${loss.wanted} becomes ${loss.instead}: ${loss.reason}`;
    alike.set(what, [...(alike.get(what) ?? []), loss.layer]);
  }
  say(note("good", `${Object.keys(done.files).join(", ")} downloaded. ${done.advice}`),
    ...[...alike].map(([what, layers]) => note("", `${layers[0]}${layers.length > 1 ? ` and ${layers.length - 1} more` : ""}: ${what}`)));
};

const lintPlan = (current) => async () => {
  const found = await linted(await current(), $("runtime").value);
  const warnings = found.findings.filter((finding) => finding.severity === "warning").length;
  const verdict = found.loads ? `${found.runtime} would load it${warnings ? `, with ${warnings} warning${warnings > 1 ? "s" : ""}` : ""} (${found.tested}).` : `${found.runtime} would not load it (${found.tested}).`;
  const rules = Map.groupBy(found.findings, (finding) => finding.rule);
  say(note(found.loads ? "good" : "error", verdict), ...[...rules.values()].map(([first, ...more]) => note(first.severity,
    `${listed(first.layers)}: ${first.detail}; ${first.advice}${more.length ? ` · and ${more.length} more like it` : ""}`)));
};

const listed = (layers) => (layers.length ? `${layers[0]}${layers.length > 1 ? ` and ${layers.length - 1} more` : ""}` : "the files");
const note = (kind, text) => element("p", { class: `finding ${kind}` }, text);
const say = (...notes) => $("taken").replaceChildren(...notes);

function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
