"""``python -m benchmarks.service``: throughput, latency, start-up and memory, in one run.

Budgets differ from request to request, so that nothing is answered from a cache. Compare within a run: machines differ,
and so does what else they do.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from typing import Any

import numpy as np

from benchmarks.service.load import Measured, Requests, closed_loop, joined, open_loop, post
from benchmarks.service.processes import Running, running

PATH = "/v1/allocations"
SERVE = ("api.cli", "serve", "--port", "0")
BARE = ("benchmarks.service.bare",)
CLIENTS = 32
TURNS = 5


def made_up(layers: int, formats: int, seed: int = 0) -> dict[str, Any]:
    """A profile with one cost and one resource.

    Args:
        layers: Its rows.
        formats: Its columns.
        seed: Of the numbers.

    Returns:
        The profile as JSON.
    """
    rng = np.random.default_rng(seed)
    bits = np.linspace(2.0, 9.0, formats)
    parameters = rng.integers(100_000, 10_000_000, layers)
    costs = (
        rng.lognormal(sigma=1.5, size=(layers, 1))
        * 4.0**-bits
        * rng.lognormal(sigma=0.1, size=(layers, formats))
    )
    return {
        "formats": {f"int{width:g}": {"weight_bits": width} for width in bits},
        "layers": [
            {"name": f"model.layers.{index}.proj", "parameters": int(count)}
            for index, count in enumerate(parameters)
        ],
        "costs": {"kl": {"values": costs.round(9).tolist()}},
        "resources": {
            "weight_bytes": {"values": np.ceil(parameters[:, None] * bits / 8).tolist(), "unit": "byte"}
        },
    }


def inline(url: str, profile: dict[str, Any]) -> Requests:
    """Make requests that carry the profile.

    Args:
        url: Base URL.

    Returns:
        Makes them.
    """
    start = b'{"profile":' + json.dumps(profile).encode() + b',"budgets":{"effective_bits":'
    return lambda number: post(url, PATH, start + b"%.9f}}" % _bits(number), ["Prefer: wait=60"])


def by_id(url: str, profile: dict[str, Any]) -> Requests:
    """Upload a profile, and make requests that name it.

    Args:
        url: Base URL.

    Returns:
        Makes them.
    """
    stored = _posted(f"{url}/v1/profiles", profile)["id"]
    return lambda number: post(
        url, PATH, b'{"profile_id":"%s","budgets":{"effective_bits":%.9f}}' % (stored.encode(), _bits(number))
    )


def _posted(url: str, document: object) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def _bits(number: int) -> float:
    return 2.5 + (number * 0.6180339887498949) % 6.0


def _line(name: str, measured: Measured, cpu_s: float) -> None:
    bad = {status: count for status, count in measured.statuses.items() if status != 200}
    print(
        f"{name:<32} {measured.per_second:7.0f}/s  p50 {measured.percentile_ms(50):8.1f} ms  "
        f"p99 {measured.percentile_ms(99):8.1f} ms  cpu {cpu_s / len(measured.latencies_s) * 1e3:7.2f} ms each"
        f"{f'  not 200: {bad}' if bad else ''}"
    )


def throughput(service: Running, bare: Running, count: int) -> None:
    """32 clients with a 225 × 8 profile, and 200 requests per second by id.

    The three kinds take turns, so that what else the machine does meets them alike.

    Args:
        bare: The bare application.
        count: Requests of each kind.
    """
    profile = made_up(225, 8)
    kinds = {
        "bare application, inline": (bare, inline(bare.url, profile)),
        "service, inline": (service, inline(service.url, profile)),
        "service, by id": (service, by_id(service.url, profile)),
    }
    parts: dict[str, list[Measured]] = {name: [] for name in kinds}
    spent_s = dict.fromkeys(kinds, 0.0)
    for turn in range(TURNS + 1):
        for name, (running_, requests) in kinds.items():
            before_s = running_.cpu_s()
            part = closed_loop(running_.url, requests, CLIENTS, count // TURNS)
            if turn:  # the first is for workers and caches to warm up
                spent_s[name] += running_.cpu_s() - before_s
                parts[name].append(part)
    rates = {}
    for name in kinds:
        whole = joined(parts[name])
        rates[name] = whole.per_second
        _line(name, whole, spent_s[name])
    print(
        f"inline / bare: {rates['service, inline'] / rates['bare application, inline']:.2f} (to reach: 0.6)"
    )
    before_s = service.cpu_s()
    steady = open_loop(service.url, kinds["service, by id"][1], 200, count)
    _line("service, by id, 200/s open loop", steady, service.cpu_s() - before_s)


def large(service: Running) -> None:
    """A 50,000 × 8 profile, inline."""
    requests = inline(service.url, made_up(50_000, 8))
    size = len(requests(0)) / 1e6
    before_s = service.cpu_s()
    measured = closed_loop(service.url, requests, 1, 5)
    _line(f"50,000 × 8 inline ({size:.1f} MB)", measured, service.cpu_s() - before_s)


def memory(service: Running, count: int) -> None:
    """Resident memory while requests by id go by."""
    requests = by_id(service.url, made_up(225, 8))
    steps = 5
    for step in range(steps + 1):
        if step:
            closed_loop(service.url, requests, CLIENTS, count // steps)
        print(
            f"memory after {step * (count // steps):>7} requests: {service.memory_bytes() / 2**20:7.1f} MiB"
        )


def main() -> None:
    """Run it all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=4000, help="requests of each kind")
    options.add_argument(
        "--memory", type=int, default=100_000, help="requests while memory is watched; 0 skips it"
    )
    options.add_argument("--only", choices=("throughput", "large", "memory"), help="one part")
    given = options.parse_args()
    with running(SERVE, "/readyz") as service, running(BARE, "/openapi.json") as bare:
        print(f"start-up: {service.start_s:.2f} s until it can work (bare application: {bare.start_s:.2f} s)")
        if given.only in {None, "throughput"}:
            throughput(service, bare, given.count)
        if given.only in {None, "large"}:
            large(service)
        if given.memory and given.only in {None, "memory"}:
            memory(service, given.memory)


if __name__ == "__main__":
    main()
