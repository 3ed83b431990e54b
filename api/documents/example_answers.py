"""Answers that the OpenAPI document shows, asked of a service by ``python -m api.documents.example_answers``.

Every answer is one that a service gave to a request of :mod:`api.openapi.examples` or of an operation. What differs
from run to run (times, ids) is replaced by what looks alike.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2

from allocator import load_profile
from api.openapi import examples
from api.openapi.document import ANSWERS, Answers
from api.operations import OPERATIONS
from api.operations.example_profile import TINY_PROFILE, UNSURE_PROFILE
from api.server import running_server

_LISTS = ("/v1/profiles", "/v1/allocations", "/v1/jobs")
_OTHERS = ("/healthz", "/readyz", "/v1/exports", "/v1/lint")
_AS_A_JOB = {"prefer": "respond-async"}
_NOBODYS = "0" * 32


def asked(url: str) -> Answers:
    """Put the examples to a service.

    Args:
        url: Where it is. Nobody else may use it meanwhile; it loses the profiles of the examples for a moment.

    Returns:
        Method and path → status → name → summary and answer.
    """
    found: Answers = defaultdict(lambda: defaultdict(dict))
    steady = _steady()

    def note(route: str, name: str, summary: str, answer: httpx2.Response) -> httpx2.Response:
        kind = answer.headers["content-type"].partition(";")[0]
        text = steady(answer.text)
        value = text if kind == "text/event-stream" else json.loads(text)
        found[route][f"{answer.status_code} {kind}"][name] = {"summary": summary, "value": value}
        return answer

    with httpx2.Client(base_url=url, timeout=60) as client:
        _profiles(client, note)
        for path, bodies in _bodies():
            for name, example in bodies.items():
                note(f"POST {path}", name, example["summary"], client.post(path, json=example["value"]))
        _jobs(client, note)
        for path in _LISTS:
            note(f"GET {path}", "a page", "The newest one", client.get(path, params={"limit": 1}))
        for path in _OTHERS:
            note(f"GET {path}", "all", "As it is", client.get(path))
        _mistakes(client, note)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def _bodies() -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "/v1/allocations", examples.ALLOCATIONS
    for operation in OPERATIONS.values():
        yield f"/v1{operation.path}", operation.examples


Note = Callable[[str, str, str, httpx2.Response], httpx2.Response]


def _profiles(client: httpx2.Client, note: Note) -> None:
    for profile in (UNSURE_PROFILE, TINY_PROFILE):
        client.delete(f"/v1/profiles/{load_profile(profile).digest()}")
    client.post("/v1/profiles", json=UNSURE_PROFILE)  # so that the list has a second page
    ((name, example),) = examples.PROFILES.items()
    where = ""
    for again in ("stored", "known already"):
        answer = client.post("/v1/profiles", json=example["value"])
        note("POST /v1/profiles", name, again.capitalize(), answer)
        where = answer.headers["location"]
    note("PUT /v1/profiles/{id}", name, "Known already", client.put(where, json=example["value"]))
    client.delete(where)
    note("PUT /v1/profiles/{id}", name, "Stored", client.put(where, json=example["value"]))
    note("GET /v1/profiles/{id}", name, "As it is stored", client.get(where))


def _jobs(client: httpx2.Client, note: Note) -> None:
    body = examples.ALLOCATIONS["average bits"]["value"]
    # The queue takes half a second to begin a job: time enough to cancel one, nearly always.
    cancelled = {"started_at": 0}
    while cancelled.get("started_at", 0) is not None:
        job = client.post("/v1/allocations", json=body, headers=_AS_A_JOB).headers["location"]
        answer = client.delete(job)
        cancelled = answer.json()
    note("DELETE /v1/jobs/{id}", "cancelled", "A job that had not begun", answer)
    answer = client.post("/v1/allocations", json=body, headers=_AS_A_JOB)
    note("POST /v1/allocations", "a job", "With `Prefer: respond-async`", answer)
    job = answer.headers["location"]
    # The stream ends when the job does.
    note("GET /v1/jobs/{id}/events", "a job", "From its begin to its end", client.get(f"{job}/events"))
    done = note("GET /v1/jobs/{id}", "succeeded", "A job that has ended", client.get(job))
    (plan,) = done.json()["allocations"]
    note("GET /v1/allocations/{id}", "average bits", "The plan of that job", client.get(plan))


def _mistakes(client: httpx2.Client, note: Note) -> None:
    body = examples.ALLOCATIONS["average bits"]["value"]
    unknown = client.post("/v1/allocations", json=body | {"budgets": {"effective_bit": 6.5}})
    note("POST /v1/allocations", "an unknown name", "Names that are known", unknown)
    wrong = client.post("/v1/allocations", json=body | {"gap": -1, "time_limit_s": "soon"})
    note("POST /v1/allocations", "two mistakes", "Each field that cannot be used", wrong)
    broken = client.post("/v1/allocations", content=b'{"gap": ', headers={"content-type": "application/json"})
    note("POST /v1/allocations", "no JSON", "Where the text breaks", broken)
    for path in ("/v1/profiles", "/v1/allocations", "/v1/jobs"):
        identifier = _NOBODYS * (2 if path == "/v1/profiles" else 1)
        note(
            f"GET {path}/{{id}}",
            "unknown",
            "It is not there, or another key's",
            client.get(f"{path}/{identifier}"),
        )


def _steady() -> Callable[[str], str]:
    numbers: Iterator[int] = itertools.count(1)
    ids: dict[str, str] = {_NOBODYS: _NOBODYS}

    def alike(match: re.Match[str]) -> str:
        return ids.setdefault(match[0], f"18eb5541f3c0a000{next(numbers):016x}")

    def steady(text: str) -> str:
        text = re.sub(r'"seconds": ?[\d.e+-]+', '"seconds":0.001', text)
        text = re.sub(r'"(created|started|ended)_at": ?[\d.]+', r'"\1_at":1795622400.0', text)
        text = re.sub(
            r'"work": ?{[^{}]*}', '"work":{}', text
        )  # how a solver got there changes with the solver
        text = re.sub(r'"request_id": ?"\w+"', '"request_id":"d81b65103f4ef146"', text)
        return re.sub(r"\b[0-9a-f]{32}\b", alike, text)

    return steady


def main() -> None:
    """Write the answers of a service of its own."""
    with running_server() as url:
        found = asked(url)
    ANSWERS.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
