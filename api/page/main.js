// The page: a profile in, its front, and the plan for the budget that the slider says.
import * as panels from "./panels.js";
import { compared } from "./compare.js";
import { frontChart, priceChart } from "./charts.js";
import { heats, strip } from "./strip.js";
import { indices, planAfter, stepsWithin } from "./front.js";
import { amountText, plain, quantity, step } from "./numbers.js";
import { element, formatColours, onTheme } from "./paint.js";
import { about, Problem, profile as storedProfile, stored, useKey } from "./service.js";
import { connect, fillLists } from "./take.js";

const $ = (id) => document.getElementById(id);
const POSITIONS = 1000;
const SETTLED_MS = 220;
const BUSY_MS = 1000;
const RESAMPLES = 100;
const LARGE = 2000; // layers beyond which exact points and resamples are few

const shown = { profile: null, calls: null, front: null, budget: 0, steps: 0, exact: null, plan: null, kept: null, typing: null };
let charts = [];
let settling = null;
let timer = 0;
let frame = 0;
const heat = strip($("strip"), (text) => { $("strip-says").textContent = text; });

// --- what goes wrong is said where everybody finds it -------------------------------------------------------------

async function attempt(work) {
  const done = busy();
  try {
    $("problem").hidden = true;
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    const fields = error instanceof Problem ? error.errors : [];
    const reason = error instanceof TypeError && /fetch/i.test(error.message) ? "The service cannot be reached; is it still running?" : error.message;
    $("problem").replaceChildren(element("strong", {}, reason),
      element("ul", {}, ...fields.slice(0, 8).map((field) => element("li", {}, element("code", {}, field.pointer || "/"), ` ${field.detail}`))));
    $("problem").hidden = false;
    if (error.status === 401) document.querySelector(".key").open = true;
    $("problem").scrollIntoView({ block: "nearest" });
    return undefined;
  } finally {
    done();
  }
}

let working = 0;

/** Say that work goes on, and for how long, once it takes longer than a moment. */
function busy() {
  const began = performance.now();
  working += 1;
  const tick = setInterval(() => {
    $("busy").hidden = false;
    $("busy").textContent = `${$("status").textContent || "Working"} … ${Math.round((performance.now() - began) / 1000)} s`;
  }, BUSY_MS);
  return () => {
    clearInterval(tick);
    working -= 1;
    if (working === 0) $("busy").hidden = true;
  };
}

// --- a profile ----------------------------------------------------------------------------------------------------

async function load(text) {
  document.body.dataset.settled = "no";
  const profile = JSON.parse(text);
  if (!profile || typeof profile !== "object" || !profile.layers || !profile.formats) {
    throw new Error("This JSON is no profile: it has no layers and formats.");
  }
  profile.costs ??= {};
  profile.resources ??= {};
  shown.calls = about(JSON.parse(text));
  options($("objective"), Object.keys({ ...profile.costs, ...profile.resources }));
  const measured = Object.keys(profile.costs).find((name) => /measured/i.test(profile.costs[name].meaning ?? ""));
  if (measured) $("objective").value = measured; // what was measured before what was estimated
  if (!tradable(profile).length) {
    throw new Error("This profile has one table and nothing to trade it against: add a resource such as weight_bytes to its resources.");
  }
  offerResources(profile);
  options($("first"), Object.keys(profile.costs));
  options($("second"), Object.keys(profile.costs));
  $("first").value = $("objective").value;
  $("second").value = Object.keys(profile.costs).find((name) => name !== $("first").value) ?? $("first").value;
  $("compared").replaceChildren();
  $("taken").replaceChildren();
  $("status").textContent = "Storing the profile";
  shown.profile = profile;
  await fillLists();
  await trace();
  $("model").textContent = profile.model || "Unnamed model";
  $("facts").textContent = `${profile.layers.length} layers, ${Object.keys(profile.formats).length} formats`;
  $("main").focus({ preventScroll: true });
}

const options = (select, names) => select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));

/** What a budget can be about, beside the objective: a plan is not held within what it minimises. */
function tradable(profile) {
  const bits = profile.resources.weight_bytes && profile.layers.every((layer) => layer.parameters);
  const names = [...Object.keys(profile.resources), ...(bits ? ["effective_bits"] : []), ...Object.keys(profile.costs)];
  return names.filter((name) => name !== $("objective").value);
}

function offerResources(profile, kept = "weight_bytes") {
  const names = tradable(profile);
  options($("resource"), names);
  if (names.includes(kept)) $("resource").value = kept;
}

/** Ask for the front, and show it at its knee. */
async function trace() {
  const { profile, calls } = shown;
  const asked = { objective: $("objective").value, resource: $("resource").value };
  document.body.dataset.settled = "no";
  $("status").textContent = "Computing the front";
  const front = await calls.front(asked);
  shown.front = front;
  const bits = Object.values(profile.formats).map((format) => format.weight_bits);
  shown.order = bits.map((_, at) => at).sort((a, b) => bits[b] - bits[a] || b - a);
  shown.colours = formatColours(profile.formats);
  shown.heat = heats(profile.costs[front.objective_name] ?? profile.resources[front.objective_name]);
  $("start").hidden = true;
  $("work").hidden = false;
  draw();
  const slider = $("budget");
  slider.min = 0;
  slider.max = POSITIONS;
  slider.step = 1;
  pick(front.spend[front.knee]);
  attempt(() => mark(front, asked));
}

/** Add the proved plans and the simple rules, which take longer than the front. */
async function mark(front, asked) {
  document.body.dataset.marked = "no";
  const points = shown.profile.layers.length > LARGE ? 5 : 17;
  const { exact, baselines } = await shown.calls.front({ ...asked, points, baselines: ["uniform", "greedy"] });
  if (shown.front !== front) return;
  Object.assign(front, { exact, baselines });
  draw();
  show();
  document.body.dataset.marked = "yes";
}

function draw() {
  charts.forEach((chart) => chart.destroy());
  $("front").replaceChildren();
  $("price").replaceChildren();
  charts = [frontChart($("front"), shown.front, pick, align), priceChart($("price"), shown.front)];
  panels.legend(shown.front);
  panels.formatLegend(shown.front, shown.order, shown.colours);
  const { front } = shown;
  $("front-says").textContent = `${front.objective_name} from ${plain(front.objective[0])} at ${quantity(front.spend[0], front.unit)} to ${plain(front.objective.at(-1))} at ${quantity(front.spend.at(-1), front.unit)}; the knee is at ${quantity(front.spend[front.knee], front.unit)}.`;
}

const THUMB = 8; // half of a slider's thumb, which never leaves the track

/** Put the ends of the slider under the ends of the front. */
function align(left, right) {
  const slider = document.querySelector(".slider");
  slider.style.paddingLeft = `${left - THUMB}px`;
  slider.style.paddingRight = `${Math.max(slider.clientWidth - right - THUMB, 0)}px`;
}

// --- a budget -----------------------------------------------------------------------------------------------------

/** Show the plan for a budget: at once from the front, and the proved one as soon as the budget rests. */
function pick(amount) {
  document.body.dataset.settled = "no";
  const { front } = shown;
  const [least, most] = [front.spend[0], front.spend.at(-1)];
  shown.budget = amount;
  shown.steps = Math.max(0, stepsWithin(front, shown.budget));
  shown.plan = planAfter(front, shown.steps);
  shown.exact = null;
  shown.kept = null;
  const inside = Math.max(least, Math.min(most, amount));
  $("budget").value = most > least ? Math.round((POSITIONS * (inside - least)) / (most - least)) : 0;
  const text = amountText(shown.budget, front.unit);
  $("budget").setAttribute("aria-valuetext", text);
  if (document.activeElement !== $("amount")) $("amount").value = text;
  const beyond = amount > most ? "; more than the best plan spends" : amount < least ? "; less than any plan spends" : "";
  $("amount-says").textContent = `from ${quantity(least, front.unit)} to ${quantity(most, front.unit)}${beyond}`;
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(show); // a hand is faster than the screen
  settling?.abort();
  clearTimeout(timer);
  timer = setTimeout(() => attempt(settle), SETTLED_MS);
}

function show() {
  const { front, steps, exact, kept } = shown;
  const spend = exact ? exact.usage[front.resource].used : front.spend[steps];
  const value = exact ? exact.objective : front.objective[steps];
  const what = { ...shown, spend, value, objective: front.objective_name, resource: front.resource };
  charts[0].show(shown.budget, spend, value);
  charts[1].show(shown.budget, front.spend[steps], priceAt(steps));
  heat.show(what);
  panels.figures(what);
  panels.notes(exact);
  panels.price(what);
  panels.blocks(what);
  if (exact) panels.tables({ ...what, kept });
}

function priceAt(steps) {
  const { front } = shown;
  return (front.price[Math.min(steps, front.price.length - 1)] ?? 0) * step(front.unit, front.spend.at(-1) - front.spend[0]).amount;
}

/** The proved plan, then its reasons. */
async function settle() {
  settling = new AbortController();
  const { signal } = settling;
  const { front, calls, profile } = shown;
  const asked = { objective: $("objective").value, budgets: { [front.resource]: shown.budget } };
  $("status").textContent = "Proving the plan";
  const exact = await calls.plan(asked, signal);
  if (exact.assignment === null) {
    document.body.dataset.settled = "yes";
    throw new Error(noPlan(exact, front));
  }
  shown.exact = exact;
  shown.plan = indices(front, exact.assignment);
  show();
  const used = quantity(exact.usage[front.resource].used, front.unit);
  $("status").textContent = `${used}: ${front.objective_name} ${plain(exact.objective)}, ${exact.status === "optimal" ? "proved optimal" : exact.status}`;
  const noisy = profile.costs[front.objective_name]?.stderr && profile.layers.length <= LARGE;
  const why = await calls.why({ ...asked, resamples: noisy ? RESAMPLES : 0 }, signal);
  panels.reasons(why);
  panels.sure(why.stability, front.objective_name, profile);
  shown.kept = why.stability ? why.stability.layers.map((layer) => layer.kept) : null;
  show();
  document.body.dataset.settled = "yes";
}

/** Why there is no plan, in the words of the answer. */
function noPlan(answer, front) {
  if (answer.status !== "infeasible") return `No plan was found in time (${answer.status}).`;
  const reach = answer.achievable?.[front.resource];
  const least = reach ? ` The least that any plan spends is ${quantity(reach.least, front.unit)}.` : "";
  return `No plan keeps ${front.resource} at most ${quantity(shown.budget, front.unit, 4)}.${least}`;
}

/** A budget that a person typed: the service reads it, so that it means here what it means in every request. */
async function typed(text) {
  const { front, calls } = shown;
  document.body.dataset.settled = "no";
  try {
    const plan = await calls.plan({ objective: $("objective").value, budgets: { [front.resource]: text } });
    pick(plan.usage[front.resource]?.limit ?? plan.achievable[front.resource].limit);
    $("amount").value = amountText(shown.budget, front.unit);
  } catch (error) {
    document.body.dataset.settled = "yes"; // what was shown before still is
    throw error;
  }
}

/** The allocation for the budget that is shown, solved for if the slider has not rested yet. */
async function current() {
  await shown.typing;
  if (!shown.exact) await settle();
  return shown.exact;
}

/** Offer what the service has stored; a service that asks for a key says so. */
async function listStored() {
  try {
    const items = await stored();
    $("stored").hidden = items.length === 0;
    $("stored-list").replaceChildren(...items.map((item) => {
      const button = element("button", { type: "button" }, element("span", {}, item.model || "Unnamed model"),
        element("span", { class: "hint" }, `${item.layers} layers, ${item.formats.length} formats`));
      button.addEventListener("click", () => attempt(async () => load(JSON.stringify(await storedProfile(item.id)))));
      return element("li", {}, button);
    }));
  } catch (error) {
    if (error.status === 401) document.querySelector(".key").open = true;
  }
}

// --- hands --------------------------------------------------------------------------------------------------------

const open = async (file) => attempt(async () => {
  try {
    await load(await file.text());
  } catch (error) {
    throw error instanceof SyntaxError ? new Error(`${file.name} is not JSON: ${error.message}`) : error;
  }
});

$("file").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });
$("example").addEventListener("click", () => attempt(async () => load(await (await fetch("/page/minilm.json")).text())));
$("another").addEventListener("click", () => { $("work").hidden = true; $("start").hidden = false; listStored(); $("example").focus(); });
for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
$("key").addEventListener("input", (event) => useKey(event.target.value));
$("key").addEventListener("change", listStored);
$("objective").addEventListener("change", () => { offerResources(shown.profile, $("resource").value); attempt(trace); });
$("resource").addEventListener("change", () => attempt(trace));
$("budget").addEventListener("input", (event) => {
  const { front } = shown;
  pick(front.spend[0] + ((front.spend.at(-1) - front.spend[0]) * event.target.value) / POSITIONS);
});
$("amount").addEventListener("change", (event) => { shown.typing = attempt(() => typed(event.target.value)); });
$("to-knee").addEventListener("click", () => pick(shown.front.spend[shown.front.knee]));
$("compare").addEventListener("click", () => attempt(async () => {
  const names = [$("first").value, $("second").value];
  const found = await shown.calls.compare({ budgets: { [shown.front.resource]: shown.budget }, first: { objective: names[0] }, second: { objective: names[1] } });
  $("compared").replaceChildren(...compared(found, names, shown.profile));
}));
onTheme(() => { if (shown.front) { draw(); show(); } });
connect(current, attempt);
listStored();
