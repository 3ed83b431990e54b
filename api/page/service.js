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
  return document;
}

/** The calls about one profile. */
export function about(profile) {
  const asked = (path) => (fields, signal) => call("POST", path, { profile, ...fields }, signal);
  return {
    front: asked("/v1/frontiers"),
    plan: asked("/v1/allocations"),
    why: asked("/v1/explanations"),
    compare: asked("/v1/comparisons"),
  };
}

export const targets = async () => (await call("GET", "/v1/exports")).targets;
export const runtimes = async () => (await call("GET", "/v1/lint")).runtimes;
export const exported = (plan, target) => call("POST", "/v1/exports", { plan, target });
export const linted = (plan, runtime) => call("POST", "/v1/lint", { plan, runtime });
