"""What estimators cost on a real encoder, and what reuse and vectorisation save, everything in one run.

``python -m benchmarks.sensitivity [--pairs N] [--tokens N] [--probes N]``. Model: all-MiniLM-L6-v2. Times are seconds
of processor time on one thread, which a busy machine disturbs least; what counts are the ratios.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.curvature_peers import peers
from quantize import parse_format
from sensitivity import Study, discover
from sensitivity.curvature import gauss_newton_probe, hessian_probe
from sensitivity.docstrings import docstring_pairs
from sensitivity.encoder_profile import EXCLUDED
from sensitivity.estimators import (
    fisher,
    gauss_newton,
    hessian_trace,
    loss,
    measured,
    output_mse,
    weight_error,
)
from sensitivity.output_metrics import find_metric
from sensitivity.study import replaced, rounded, silent
from sensitivity.text_encoder import cosine_distance, encode, info_nce, load_text_encoder, pair_batches

_FORMATS = ("int2-g64", "int3-g64", "int4-g64", "int8-g64")
_CASES = ("equal probes", "equal standard error", "in the long run")
_CONSOLE = Console(width=130)


def main(
    pairs: Annotated[int, typer.Option(help="Calibration pairs, two texts each.")] = 16,
    tokens: Annotated[int, typer.Option(help="Longer texts are cut.")] = 32,
    probes: Annotated[int, typer.Option(help="Probes of each trace estimator.")] = 8,
) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    encoder, tokenizer = load_text_encoder(max_tokens=tokens)
    batches = pair_batches(tokenizer, docstring_pairs(pairs), max(2, pairs // 2))
    formats = tuple(map(parse_format, _FORMATS))
    study = Study(encoder, batches, info_nce, discover(encoder, EXCLUDED), formats, 0, silent)
    _forward_backward(study)  # the first pass pays for what later ones find in place
    unit = min(_seconds(partial(_forward_backward, study))[0] for _ in range(3))
    shapes = ", ".join(str(tuple(batch["input_ids"].shape)) for batch in batches)
    _CONSOLE.print(
        f"{len(study.layers)} layers × {len(formats)} formats, batches of {shapes} tokens; "
        f"one forward-backward pass over them takes {unit:.2f} s of processor time"
    )
    _estimators(study, unit, probes)
    _against_naive(study)
    _traces(study, probes)


def _estimators(study: Study, unit: float, probes: int) -> None:
    outputs: dict[str, Any] = {"outputs": encode, "metric": "squared_error"}
    runs: dict[str, Callable[[Study], object]] = {
        "weight_error": weight_error,
        "output_mse": output_mse,
        "fisher": fisher,
        "fisher, labels sampled": partial(fisher, labels="sampled", **outputs),
        f"hessian_trace, {probes} probes": partial(hessian_trace, probes=probes),
        f"hessian_trace, {probes} probes, separate": partial(hessian_trace, probes=probes, separate=True),
        f"hessian_trace, {probes} probes, gauss_newton": partial(
            hessian_trace, probes=probes, curvature="gauss_newton", **outputs
        ),
        "gauss_newton": partial(gauss_newton, **outputs),
        "loss": loss,
        "embedding distance": _distance,
    }
    rounding = min(_seconds(lambda: weight_error(study))[0] for _ in range(2))
    _CONSOLE.print(f"rounding every layer to every format, once for each table: {rounding:.2f} s")
    table = Table("estimator", "s", "forward-backward passes, rounding aside", "peak memory, MiB")
    for name, run in runs.items():
        seconds, peak = _seconds(partial(run, study))
        passes = "–" if name == "weight_error" else f"{(seconds - rounding) / unit:.2f}"
        table.add_row(name, f"{seconds:.2f}", passes, peak)
    _CONSOLE.print(table)


def _against_naive(study: Study) -> None:
    table = Table("what", "s", "the plain way, s", "ratio")
    ours, plain = _seconds(lambda: _distance(study))[0], _seconds(lambda: _naive_distance(study))[0]
    table.add_row(
        "embedding distance, against whole passes", f"{ours:.2f}", f"{plain:.2f}", f"{ours / plain:.3f}"
    )
    ours, plain = _seconds(lambda: fisher(study))[0], _seconds(lambda: _looped_fisher(study))[0]
    table.add_row("fisher, against a loop over samples", f"{ours:.2f}", f"{plain:.2f}", f"{ours / plain:.3f}")
    _CONSOLE.print(table)


def _traces(study: Study, probes: int) -> None:
    """Time to give every layer the standard error that ``probes`` probes of ours have.

    A peer takes at least one probe for each layer and sets up once for each; "in the long run" both have worn off.
    """
    metric = find_metric("squared_error")
    kinds: dict[str, tuple[str, Callable[[Study, int, int], Any]]] = {
        "all at once, Hessian": ("Hessian", hessian_probe),
        "separate, Hessian": ("Hessian", partial(hessian_probe, separate=True)),
        "all at once, Gauss-Newton": (
            "Gauss-Newton",
            partial(gauss_newton_probe, outputs=encode, metric=metric),
        ),
    }
    seconds: dict[str, float] = {}
    variance: dict[str, Any] = {}
    for name, (_, probe) in kinds.items():
        study.memo.clear()
        forms: list[Any] = []
        seconds[name] = _seconds(
            lambda probe=probe, forms=forms: forms.extend(_probed(study, probe, probes))
        )[0]
        variance[name] = np.var(forms, axis=0, ddof=1)[:-1]  # (L,)
    study.memo.clear()
    table = Table("ours", "s", "peer, layer by layer", "s", *(f"speed, {case}" for case in _CASES))
    for peer, run in peers().items():
        timings = np.array([run(study, index, 2) for index in range(len(study.layers))])  # (L, 2)
        for name, (kind, _) in kinds.items():
            if kind not in peer:
                continue
            # A peer's probe of one layer has the noise of our separate ones. For Gauss-Newton it is taken to have that
            # of ours: both are 2 (|M|² - |diag M|²) of matrices with the same eigenvalues.
            own = variance["separate, Hessian"] if kind == "Hessian" else variance[name]
            needed = probes * own / variance[name]  # probes of the peer for the standard error of ours
            plain = float((timings[:, 0] + probes * timings[:, 1]).sum())
            equal = float((timings[:, 0] + np.maximum(needed, 1) * timings[:, 1]).sum())
            ever = float((needed * timings[:, 1]).sum())
            table.add_row(
                name, f"{seconds[name]:.2f}", peer, f"{plain:.2f}",
                *(f"{theirs / seconds[name]:.1f} ×" for theirs in (plain, equal, ever)),
            )  # fmt: skip
    _CONSOLE.print(table)
    coupled = variance["all at once, Hessian"] / variance["separate, Hessian"]
    _CONSOLE.print(
        f"variance of a layer's trace, all at once ÷ separate: median {np.median(coupled):.1f}, "
        f"{coupled.min():.1f} to {coupled.max():.1f}"
    )


def _probed(study: Study, probe: Callable[[Study, int, int], Any], probes: int) -> list[Any]:
    return [probe(study, 0, index) for index in range(probes)]


def _distance(study: Study) -> object:
    return measured(study, name="distance", outputs=encode, distance=cosine_distance, meaning="1 - cosine")


def _naive_distance(study: Study) -> None:
    with torch.no_grad():
        reference = [encode(study.model, batch) for batch in study.batches]
        for layer in study.layers:
            for target in study.formats:
                with replaced(layer, rounded(layer, target)):
                    for before, batch in zip(reference, study.batches, strict=True):
                        cosine_distance(before, encode(study.model, batch))


def _looped_fisher(study: Study) -> None:
    weights = [layer.weight for layer in study.layers]
    squared = [
        torch.stack([(rounded(layer, target) - layer.weight.detach()).square() for target in study.formats])
        for layer in study.layers
    ]
    for batch in study.batches:
        losses = study.loss_fn(study.model, batch)
        for row in losses:
            gradients = torch.autograd.grad(row, weights, retain_graph=True)
            for gradient, error in zip(gradients, squared, strict=True):
                error.flatten(1) @ gradient.square().flatten()


def _forward_backward(study: Study) -> None:
    for batch in study.batches:
        study.loss_fn(study.model, batch).mean().backward()
    study.model.zero_grad()


def _seconds(run: Callable[[], object]) -> tuple[float, str]:
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # memory that was freed but kept would hide the next peak
    status, resident = Path("/proc/self/status"), 0
    if status.exists():
        Path("/proc/self/clear_refs").write_text("5")  # start the peak from here
        resident = _kib(status, "VmRSS")
    start = time.process_time()
    run()
    seconds = time.process_time() - start
    return seconds, f"{(_kib(status, 'VmHWM') - resident) / 1024:.0f}" if status.exists() else "–"


def _kib(status: Path, field: str) -> int:
    (line,) = [line for line in status.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1])


if __name__ == "__main__":
    typer.run(main)
