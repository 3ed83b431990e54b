// The public API of this service; nothing else is ever called.

let key = ""; // lives as long as the tab

export const useKey = (text) => { key = text.trim(); };

/** An answer of the service that is not a success: what happened, and which fields are at fault. */
export class Problem extends Error {
  constructor(details, status) {
    super(details.detail || `the service answered ${status}`);
    this.status = status;
    this.errors = details.errors || [];
  }
}

async function call(method, path, body, signal) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key) headers.authorization = `Bearer ${key}`;
  const answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(document, answer.status);
  return answer.status === 202 ? finished(answer.headers.get("location"), signal) : document;
}

/** Wait for a plan that takes longer than its request may. */
async function finished(location, signal) {
  for (;;) {
    const job = await call("GET", location, undefined, signal);
    if (job.state === "succeeded") return call("GET", job.allocations[0], undefined, signal);
    if (job.state === "failed" || job.state === "cancelled") throw new Problem(job.problem ?? { detail: `the job was ${job.state}` }, 500);
    await new Promise((resolve) => { setTimeout(resolve, 500); });
  }
}

/** The calls about one profile, which is stored with the first of them and then named by its digest. */
export function about(profile) {
  let id = null;
  const asked = (path) => async (fields, signal) => {
    id ??= call("POST", "/v1/profiles", profile);
    try {
      return await call("POST", path, { profile_id: (await id).id, ...fields }, signal);
    } catch (error) {
      if (error.name !== "AbortError") id = null; // it may have been deleted, or never got there
      throw error;
    }
  };
  return {
    front: asked("/v1/frontiers"),
    plan: asked("/v1/allocations"),
    why: asked("/v1/explanations"),
    compare: asked("/v1/comparisons"),
  };
}

/** What the service has stored for this key, newest first. */
export const stored = async () => (await call("GET", "/v1/profiles?limit=8")).items;
export const profile = (id) => call("GET", `/v1/profiles/${id}`);
export const targets = async () => (await call("GET", "/v1/exports")).targets;
export const runtimes = async () => (await call("GET", "/v1/lint")).runtimes;
export const exported = (plan, target) => aboutPlan("/v1/exports", plan, { target });
export const linted = (plan, runtime) => aboutPlan("/v1/lint", plan, { runtime });

/** By the plan's id; the whole of it only where the service no longer keeps it. */
async function aboutPlan(path, plan, fields) {
  try {
    return await call("POST", path, { allocation_id: plan.id, ...fields });
  } catch (error) {
    if (error.status !== 404) throw error;
    return call("POST", path, { plan, ...fields });
  }
}
