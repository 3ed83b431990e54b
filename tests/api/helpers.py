"""What the tests of the service, the client and the command share."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from allocator import Allocation
from allocator.solvers import Entry, Solver
from api.openapi.examples import TINY_PROFILE
from api.problems.problem import MEDIA_TYPE


def tiny(**changes: object) -> dict[str, Any]:
    """The profile of the OpenAPI examples with its top-level fields replaced."""
    return copy.deepcopy(TINY_PROFILE) | changes


def random_profile(layers: int, seed: int = 0) -> dict[str, Any]:
    """A profile with two cost tables, as large as asked for."""
    rng = np.random.default_rng(seed)
    bits = np.array([2.0, 4.0, 8.0])
    parameters = rng.integers(1_000, 100_000, layers)
    sensitivity = rng.lognormal(sigma=1.5, size=(layers, 1))
    return {
        "model": f"random {seed}",
        "formats": {f"int{width:g}-g64": {"weight_bits": width, "group_size": 64} for width in bits},
        "layers": [
            {"name": f"layer.{index}", "parameters": int(count)} for index, count in enumerate(parameters)
        ],
        "costs": {
            "kl": {"values": (sensitivity * 4.0**-bits).tolist()},
            "fisher": {"values": (rng.lognormal(size=(layers, 1)) * 4.0**-bits).tolist()},
        },
        "resources": {
            "weight_bytes": {
                "values": np.ceil(parameters[:, None] * (bits + 0.25) / 8).tolist(),
                "unit": "byte",
            },
            "latency": {"values": (parameters[:, None] * (1 + bits / 8) / 1e3).tolist(), "unit": "us"},
        },
    }


def comparable(allocation: Allocation | Mapping[str, Any] | str | bytes) -> dict[str, Any]:
    """An allocation as its JSON, without what differs from run to run: the time it took, and where it is kept."""
    if isinstance(allocation, Allocation):
        allocation = allocation.model_dump_json()
    document = json.loads(allocation) if isinstance(allocation, (str, bytes)) else copy.deepcopy(allocation)
    assert document["solver"].pop("seconds") >= 0
    document.pop("id", None)
    return dict(document)


def problem_of(response: Any, status: int) -> dict[str, Any]:
    """The body of an error answer, which has to be problem+json of that status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert set(body) == {"type", "title", "status", "detail", "errors", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    return body


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an application of this process over a real socket; for what cannot be arranged from outside."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive()


@dataclass(frozen=True)
class GivenSolver(Entry):
    """An entry for ``allocator.SOLVERS`` around a function."""

    run: Solver | None = None

    def load(self) -> Solver:
        assert self.run is not None
        return self.run


@dataclass(frozen=True)
class Guarded:
    """A service with keys.

    Attributes:
        url: Where it is.
        mine: A good key.
        theirs: Another good key.
        revoked: A key that was revoked.
    """

    url: str
    mine: str
    theirs: str
    revoked: str
