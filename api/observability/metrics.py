"""What Prometheus reads at ``/metrics``; one registry per application, for one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from allocator import BitallocError

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GAPS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
_CLASSES = ((100, "1-100"), (1_000, "101-1000"), (10_000, "1001-10000"), (100_000, "10001-100000"))


def size_class(layers: int) -> str:
    """Name the class of a profile by its rows, so that metrics have few series.

    Returns:
        For example ``101-1000``.

    Example:
        >>> size_class(225)
        '101-1000'
    """
    return next((name for most, name in _CLASSES if layers <= most), "100001-")


class Metrics:
    """The counters of one application.

    Example:
        >>> metrics = Metrics()
        >>> metrics.answered("GET", "/healthz", 200, 0.002)
        >>> b'bitalloc_requests_total{method="GET",route="/healthz",status="200"} 1.0' in metrics.text()
        True
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bitalloc_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._latency = Histogram(
            "bitalloc_request_seconds",
            "From the last byte of the header to the last byte of the answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._solves = Histogram(
            "bitalloc_solve_seconds",
            "What solvers took, by solver and layers of the profile.",
            ("solver", "layers"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._gaps = Histogram(
            "bitalloc_solve_gap",
            "Relative gap that solves ended with.",
            ("solver", "layers"),
            buckets=_GAPS,
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, taken_s: float) -> None:
        """Count a request.

        Args:
            status: HTTP status; 0 where the client went away first.
        """
        self._requests.labels(method, route, status).inc()
        self._latency.labels(method, route).observe(taken_s)

    def solved(self, solver: str, layers: int, seconds: float, gap: float | None) -> None:
        """Count a finished solve.

        Args:
            gap: Relative gap; None where there is no plan.
        """
        labels = solver, size_class(layers)
        self._solves.labels(*labels).observe(seconds)
        if gap is not None:
            self._gaps.labels(*labels).observe(gap)

    def count_solves(self, facts: Mapping[str, Any]) -> None:
        """Count the solves of a finished task.

        Args:
            facts: Of the task; ``rows`` has one entry per plan.
        """
        for row in facts.get("rows", ()):
            self.solved(row["solver"], row["layers"], row["seconds"], row["gap"])

    def watch_jobs(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Report the jobs by state whenever somebody reads the metrics.

        Args:
            count: Asked for the number of jobs in each state; an error leaves the gauge out.
        """
        self._registry.register(_Jobs(count))

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Jobs(Collector):
    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("bitalloc_jobs", "Jobs by state, of all replicas.", labels=("state",))
        try:
            counts = self._count()
        except (
            BitallocError
        ):  # the database is away; the other metrics say more without this one than not at all
            return
        for state, number in counts.items():
            family.add_metric((state,), number)
        yield family

    def describe(self) -> Iterable[Metric]:
        # Without this, registering would already count the jobs of a store that is not open yet.
        return [GaugeMetricFamily("bitalloc_jobs", "Jobs by state, of all replicas.", labels=("state",))]
