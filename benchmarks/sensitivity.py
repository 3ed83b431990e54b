"""What estimators cost on a real encoder, and what reuse and vectorisation save, everything in one run.

``python -m benchmarks.sensitivity [--pairs N] [--tokens N] [--probes N]``. Model: all-MiniLM-L6-v2. Times are seconds
of processor time on one thread, which a busy machine disturbs least; what counts are the ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.process_cost import seconds
from benchmarks.trace_speed import show_traces
from quantize import parse_format
from sensitivity import (
    Study,
    discover,
    entropy,
    fisher,
    gauss_newton,
    hessian_trace,
    lim,
    loss,
    lrp,
    measured,
    output_mse,
    weight_error,
    zd,
)
from sensitivity.pretrained.docstrings import docstring_pairs
from sensitivity.pretrained.text_encoder import (
    cosine_distance,
    encode,
    info_nce,
    load_text_encoder,
    minilm_folder,
    pair_batches,
)
from sensitivity.profiling.encoder_profile import EXCLUDED
from sensitivity.study.study import replaced, rounded, silent

_FORMATS = ("int2-g64", "int3-g64", "int4-g64", "int8-g64")
_CONSOLE = Console(width=130)


def main(
    pairs: Annotated[int, typer.Option(help="Calibration pairs, two texts each.")] = 32,
    tokens: Annotated[int, typer.Option(help="Longer texts are cut.")] = 32,
    probes: Annotated[int, typer.Option(help="Probes of each trace estimator.")] = 8,
) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    encoder, tokenizer = load_text_encoder(minilm_folder(), max_tokens=tokens)
    batches = pair_batches(tokenizer, docstring_pairs(pairs), 8)
    formats = tuple(map(parse_format, _FORMATS))
    study = Study(encoder, batches, info_nce, discover(encoder, EXCLUDED), formats, 0, silent)
    _forward_backward(study)  # the first pass pays for what later ones find in place
    unit = min(seconds(partial(_forward_backward, study))[0] for _ in range(3))
    _CONSOLE.print(
        f"{len(study.layers)} layers × {len(formats)} formats, {len(batches)} batches of "
        f"{tuple(batches[0]['input_ids'].shape)} tokens; one forward-backward pass over them takes {unit:.2f} s of "
        "processor time"
    )
    fisher_passes = _estimators(study, unit, probes)
    measured_ratio = _against_naive(study)
    traces_speed = show_traces(study, probes, _CONSOLE)
    _bars(len(study.layers), fisher_passes, measured_ratio, traces_speed)


def _bars(layers: int, fisher_passes: float, measured_ratio: float, traces_speed: float | None) -> None:
    table = Table("bar", "to reach", "reached", "")
    rows = [
        ("fisher, forward-backward passes", 3.0, fisher_passes, fisher_passes <= 3),
        ("measured table ÷ naive", 0.6, measured_ratio, measured_ratio < 0.6),
    ]
    if traces_speed is not None:
        least = layers / 3
        rows.append(
            ("Hessian traces, PyHessian ÷ ours, equal probes", least, traces_speed, traces_speed >= least)
        )
    for name, bar, reached, met in rows:
        table.add_row(name, f"{bar:.2f}", f"{reached:.2f}", "met" if met else "MISSED")
    _CONSOLE.print(table)


def _estimators(study: Study, unit: float, probes: int) -> float:
    outputs: dict[str, Any] = {"outputs": encode, "metric": "squared_error"}
    runs: Mapping[str, Callable[[Study], object]] = {
        "weight_error": weight_error,
        "zd": zd,
        "entropy": entropy,
        "lim": lim,
        "output_mse": output_mse,
        "fisher": fisher,
        "fisher, labels sampled": partial(fisher, labels="sampled", **outputs),
        "lrp, errors of weights": partial(lrp, error="weight"),
        "lrp": lrp,
        f"hessian_trace, {probes} probes, gauss_newton": partial(
            hessian_trace, probes=probes, curvature="gauss_newton", **outputs
        ),
        f"hessian_trace, {probes} probes": partial(hessian_trace, probes=probes),
        f"hessian_trace, {probes} probes, separate": partial(hessian_trace, probes=probes, separate=True),
        "gauss_newton": partial(gauss_newton, **outputs),
        "loss": loss,
        "embedding distance": _distance,
        "embedding distance, formats together": partial(_distance, together=len(study.formats)),
    }
    rounding = min(seconds(lambda: weight_error(study))[0] for _ in range(2))
    _CONSOLE.print(f"rounding every layer to every format, once for each table: {rounding:.2f} s")
    table = Table("estimator", "s", "forward-backward passes, rounding aside", "peak memory, MiB")
    passes = {}
    for name, run in runs.items():
        took, peak = seconds(partial(run, study))
        passes[name] = (took - (0 if name == "entropy" else rounding)) / unit
        told = f"{passes[name]:.2f}" if name not in {"weight_error", "zd"} else "–"
        table.add_row(name, f"{took:.2f}", told, "–" if peak is None else f"{peak:.0f}")
    _CONSOLE.print(table)
    return passes["fisher"]


def _against_naive(study: Study) -> float:
    table = Table("what", "s", "the plain way, s", "ratio")
    pairs = {
        "embedding distance, against whole passes": (_distance, _naive_distance),
        "fisher, against a loop over samples": (fisher, _looped_fisher),
    }
    ratios = []
    for name, (mine, naive) in pairs.items():
        ours, plain = seconds(partial(mine, study))[0], seconds(partial(naive, study))[0]
        ratios.append(ours / plain)
        table.add_row(name, f"{ours:.2f}", f"{plain:.2f}", f"{ratios[-1]:.3f}")
    _CONSOLE.print(table)
    return ratios[0]


def _distance(study: Study, together: int = 1) -> object:
    return measured(
        study,
        name="distance",
        outputs=encode,
        distance=cosine_distance,
        meaning="1 - cosine",
        together=together,
    )


def _naive_distance(study: Study) -> None:
    with torch.no_grad():
        reference = [encode(study.model, batch) for batch in study.batches]
        for layer in study.layers:
            for fmt in study.formats:
                with replaced(layer, rounded(layer, fmt)):
                    for before, batch in zip(reference, study.batches, strict=True):
                        cosine_distance(before, encode(study.model, batch))


def _looped_fisher(study: Study) -> None:
    weights = [layer.weight for layer in study.layers]
    squared = [
        torch.stack([(rounded(layer, fmt) - layer.weight.detach()).square() for fmt in study.formats])
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


if __name__ == "__main__":
    typer.run(main)
