"""Time to give every layer a trace: all layers from one probe, against peers that are called layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table

from allocator.knapsack.problem import FloatArray
from benchmarks.curvature_peers import peers
from benchmarks.process_cost import seconds
from sensitivity import Study
from sensitivity.curvature.output_metrics import METRICS
from sensitivity.curvature.probe import gauss_newton_probe, hessian_probe
from sensitivity.models.text_encoder import encode

_Probe: TypeAlias = Callable[[Study, int, int], FloatArray]
_KINDS: Mapping[str, tuple[str, _Probe]] = {
    "all at once, Hessian": ("Hessian", hessian_probe),
    "separate, Hessian": ("Hessian", partial(hessian_probe, separate=True)),
    "all at once, Gauss-Newton": (
        "Gauss-Newton",
        partial(gauss_newton_probe, outputs=encode, metric=METRICS["squared_error"]),
    ),
}
_RELATIVE_ERROR = 0.1


@dataclass(frozen=True, eq=False)
class _Ours:
    """Some probes of one kind.

    Attributes:
        seconds: What one probe took.
        traces: (L,) means over the probes.
        variance: (L,) of one probe.
    """

    seconds: float
    traces: FloatArray
    variance: FloatArray

    @property
    def needed(self) -> float:
        """Probes for a relative standard error of a tenth in the median layer."""
        return float(np.median(self.variance / self.traces**2)) / _RELATIVE_ERROR**2


def show_traces(study: Study, probes: int, console: Console) -> float | None:
    """Print the tables.

    Args:
        study: Model, data and layers; the first batch is used.
        probes: Probes of each kind.
        console: Where to.

    Returns:
        Seconds of PyHessian over ours with all layers at once, equal probes of the Hessian; None without PyHessian.
    """
    ours = {name: _measured(study, probe, probes) for name, (_, probe) in _KINDS.items()}
    own = ours["separate, Hessian"]
    theirs = {
        peer: np.array([run(study, index, 2) for index in range(len(study.layers))])  # (L, 2)
        for peer, run in peers().items()
    }
    table = Table(
        "ours", "s", "peer, layer by layer", "s", "speed, equal probes", "speed, equal standard error"
    )
    for peer, timings in theirs.items():
        for name, made in ours.items():
            if _KINDS[name][0] not in peer:
                continue
            # A peer's probe of one layer has the noise of our separate ones. For Gauss-Newton it is taken to have that
            # of ours: both are 2 (|M|² - |diag M|²) of matrices with the same eigenvalues.
            noise = own.variance if _KINDS[name][0] == "Hessian" else made.variance
            needed = np.maximum(probes * noise / made.variance, 1)  # a peer takes at least one for each layer
            mine, plain = probes * made.seconds, _spent(timings, np.full(len(timings), probes))
            table.add_row(
                name, f"{mine:.2f}", peer, f"{plain:.2f}", f"{plain / mine:.1f} ×",
                f"{_spent(timings, needed) / mine:.1f} ×",
            )  # fmt: skip
    console.print(table)
    coupled = ours["all at once, Hessian"].variance / own.variance
    console.print(
        f"variance of a layer's trace, all at once ÷ separate: median {np.median(coupled):.1f}, "
        f"{coupled.min():.1f} to {coupled.max():.1f}; negative traces: "
        + ", ".join(f"{int((made.traces < 0).sum())} {name}" for name, made in ours.items())
    )
    console.print(_to_a_tenth(ours, theirs))
    if "PyHessian, Hessian" not in theirs:
        return None
    plain = _spent(theirs["PyHessian, Hessian"], np.full(len(study.layers), probes))
    return plain / (probes * ours["all at once, Hessian"].seconds)


def _to_a_tenth(ours: Mapping[str, _Ours], theirs: Mapping[str, FloatArray]) -> Table:
    title = "every layer, until the standard error of the median layer is a tenth of its |trace|"
    table = Table("what", "probes", "s", title=title)
    for name, made in ours.items():
        table.add_row(name, f"{made.needed:.0f}", f"{made.needed * made.seconds:.0f}")
    for peer, timings in theirs.items():
        like = "separate, Hessian" if "Gauss-Newton" not in peer else "all at once, Gauss-Newton"
        needed = max(ours[like].needed, 1)
        table.add_row(peer, f"{needed:.0f}", f"{_spent(timings, np.full(len(timings), needed)):.0f}")
    return table


def _spent(timings: FloatArray, probes: FloatArray) -> float:
    return float((timings[:, 0] + probes * timings[:, 1]).sum())


def _measured(study: Study, probe: _Probe, probes: int) -> _Ours:
    study.memo.clear()
    forms: list[Any] = []
    took, _ = seconds(lambda: forms.extend(probe(study, 0, index) for index in range(probes)))
    study.memo.clear()
    rows = np.array(forms)[:, :-1]  # (P, L)
    return _Ours(took / probes, rows.mean(axis=0), rows.var(axis=0, ddof=1))
