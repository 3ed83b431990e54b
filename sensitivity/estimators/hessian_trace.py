r"""Mean curvature trace times squared rounding error (HAWQ-V2).

.. math:: \Omega_{l,f} = \frac{\operatorname{Tr}(H_l)}{n_l} \, \lVert Q_f(W_l) - W_l \rVert_2^2

H_l is the diagonal block of layer l in the Hessian of the mean loss, or in the Gauss-Newton matrix of a metric of the
outputs, and n_l its number of weights: the *mean* trace times the *un-normalised* sum of squares. The traces of all
layers come from the same random probes, see :mod:`sensitivity.curvature.probe`.

Traces of a model that is not at a minimum can be negative, and so can estimates of small ones; they are kept as they
are and counted in the meaning of the table. Gauss-Newton traces are never negative.

Source: Z. Dong et al., "HAWQ-V2", NeurIPS 2020, eq. 2.11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import unknown
from allocator.knapsack.problem import BoolArray, FloatArray
from sensitivity.curvature.output_metrics import METRICS, OutputFunction
from sensitivity.curvature.probe import gauss_newton_probe, hessian_probe
from sensitivity.curvature.rounding_error import squared_errors
from sensitivity.models.layers import LayerRef
from sensitivity.study.study import Study, derived_seed, require_layers_only, table
from sensitivity.study.tasks import Key, Measure

_CURVATURES = ("hessian", "gauss_newton")


def hessian_trace(
    study: Study,
    probes: int = 8,
    *,
    relative_error: float | None = None,
    max_probes: int = 256,
    separate: bool = False,
    curvature: Literal["hessian", "gauss_newton"] = "hessian",
    outputs: OutputFunction | None = None,
    metric: str = "softmax_kl",
) -> CostTable:
    """Estimate the table from a few Hessian-vector products.

    Args:
        probes: Number of probes. They take the batches in a shuffled order, so that the standard error covers both
            the probe and the batch.
        relative_error: Go on, ``probes`` at a time, until every layer's standard error is at most this fraction of
            the absolute value of its trace.
        max_probes: Stop there all the same; the meaning of the table then names the layers that fell short.
        separate: Take a Hessian-vector product for each layer on its own. That costs several times more per probe and
            removes the noise that layers make for each other; where layers are strongly coupled (transformers) a
            given standard error is reached sooner.
        curvature: ``hessian`` of the loss, or ``gauss_newton``: never negative, blind to labels, and at one ordinary
            backward pass per probe several times cheaper.
        outputs: (model, batch) → (B, …, C), such as the logits; for ``gauss_newton``.
        metric: Metric of the outputs for ``gauss_newton``: ``softmax_kl`` or ``squared_error``.

    Returns:
        (L, F); standard errors need at least two probes.

    Raises:
        InvalidInputError: An argument is out of range, or a probe is not finite (names the layer).

    Example:
        >>> import torch
        >>> from sensitivity import profile_model
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> loss = lambda model, batch: model(batch).square().sum(1)
        >>> stop = partial(hessian_trace, relative_error=0.2)
        >>> profile = profile_model(model, [torch.randn(4, 8)], loss, ["int4"], {"trace": stop})
        >>> table = profile.costs["trace"]
        >>> all(error[0] <= 0.2 * abs(value[0]) for value, error in zip(table.values, table.stderr))
        True
    """
    require_layers_only(study, "hessian_trace")
    _check(probes, relative_error, max_probes)
    measure = _measure(separate, curvature, outputs, metric)
    # A stage of its own for each kind of probe, so that an engine never takes one for the other.
    stage = "hessian_trace" + " separate" * separate + f" {metric}" * (curvature == "gauss_newton")
    order = np.random.default_rng(derived_seed(study.seed, "hessian_trace")).permutation(len(study.batches))
    limit = probes if relative_error is None else max_probes
    pieces: list[FloatArray] = []
    while True:
        chunk = range(len(pieces), min(len(pieces) + probes, limit))
        # Probes of one batch stand together: they share its forward and its first backward pass.
        keys = sorted((str(order[probe % order.size]), str(probe)) for probe in chunk)
        told = replace(study, progress=partial(_later, study, len(pieces), limit))
        made = dict(zip(keys, study.engine(told, stage, keys, measure), strict=True))
        pieces += [made[str(order[probe % order.size]), str(probe)] for probe in chunk]
        traces, errors = _weighted(np.array(pieces))
        short = _short(traces, errors, relative_error)
        if not short.any() or len(pieces) >= limit:
            break
    counts = np.array([layer.weight.numel() for layer in study.layers])
    squared = squared_errors(study)  # (L, F)
    stderr = None if errors is None else (errors / counts)[:, None] * squared
    meaning = _meaning(study.layers, curvature, metric, traces, short, len(pieces))
    return table((traces / counts)[:, None] * squared, stderr, meaning)


def _check(probes: int, relative_error: float | None, max_probes: int) -> None:
    if probes < 1:
        raise InvalidInputError(Fault("/probes", f"expected at least 1 probe, got {probes}"))
    if relative_error is None:
        return
    if not 0 < relative_error < np.inf:
        raise InvalidInputError(Fault("/relative_error", f"expected a number above 0, got {relative_error}"))
    if probes < 2:
        raise InvalidInputError(
            Fault("/probes", "a standard error to stop at needs at least 2 probes, got 1")
        )
    if max_probes < probes:
        detail = f"expected at least probes = {probes}, got {max_probes}"
        raise InvalidInputError(Fault("/max_probes", detail))


def _measure(separate: bool, curvature: str, outputs: OutputFunction | None, metric: str) -> Measure:
    if curvature not in _CURVATURES:
        raise InvalidInputError(Fault("/curvature", unknown(curvature, _CURVATURES, "curvature")))
    if curvature == "hessian":
        if outputs is not None:
            detail = "the Hessian is that of the loss; leave outputs out, or ask for curvature='gauss_newton'"
            raise InvalidInputError(Fault("/outputs", detail))
        return partial(_hessian, separate=separate)
    if separate:
        detail = "Gauss-Newton probes have no noise from other layers; leave separate out"
        raise InvalidInputError(Fault("/separate", detail))
    if outputs is None:
        detail = "curvature='gauss_newton' needs a function (model, batch) → (B, …, C), such as the logits"
        raise InvalidInputError(Fault("/outputs", detail))
    return partial(_gauss_newton, outputs=outputs, metric=metric)


def _hessian(study: Study, key: Key, *, separate: bool) -> FloatArray:
    return hessian_probe(study, int(key[0]), int(key[1]), separate)


def _gauss_newton(study: Study, key: Key, *, outputs: OutputFunction, metric: str) -> FloatArray:
    return gauss_newton_probe(study, int(key[0]), int(key[1]), outputs, METRICS.find(metric))


def _later(study: Study, before: int, total: int, stage: str, done: int, _: int) -> None:
    study.progress(stage, before + done, total)


def _weighted(pieces: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    # The mean loss is over samples: a batch counts by its size.
    forms, weights = pieces[:, :-1], pieces[:, -1:]  # (P, L), (P, 1)
    mean = (weights * forms).sum(axis=0) / weights.sum()
    if len(pieces) < 2:
        return mean, None
    spread = np.sqrt(np.square(weights * (forms - mean)).sum(axis=0)) / weights.sum()
    return mean, spread * np.sqrt(len(pieces) / (len(pieces) - 1))


def _short(traces: FloatArray, errors: FloatArray | None, relative_error: float | None) -> BoolArray:
    if relative_error is None or errors is None:
        return np.zeros(len(traces), dtype=bool)
    short: BoolArray = errors > relative_error * np.abs(traces)
    return short


def _meaning(
    layers: Sequence[LayerRef],
    curvature: str,
    metric: str,
    traces: FloatArray,
    short: BoolArray,
    probes: int,
) -> str:
    matrix = "Hessian" if curvature == "hessian" else f"Gauss-Newton ({metric})"
    parts = [
        f"mean {matrix} trace of the mean calibration loss times the squared rounding error of the layer",
        f"normalisation: trace / parameters, error summed; {probes} probes",
    ]
    if (traces < 0).any():
        parts.append(f"negative traces, kept as they are: {_names(layers, traces < 0)}")
    if short.any():
        parts.append(f"short of the relative standard error: {_names(layers, short)}")
    return "; ".join(parts)


def _names(layers: Sequence[LayerRef], chosen: BoolArray) -> str:
    names = [layer.name for layer, named in zip(layers, chosen, strict=True) if named]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} of {len(layers)} ({', '.join(names[:5])}{more})"
