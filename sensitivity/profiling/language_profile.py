"""The profile of a causal language model: the loss of the next token, and how far its predictions move."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from allocator import Profile
from allocator.knapsack.tables import WEIGHT_BYTES
from quantize import NEAREST, Rounding
from sensitivity.estimators.gauss_newton import gauss_newton
from sensitivity.estimators.kl import kl
from sensitivity.estimators.output_mse import output_mse
from sensitivity.estimators.weight_error import weight_error
from sensitivity.models.language_model import logits, next_token_loss
from sensitivity.profiling.model_kind import ModelKind, profile_kind
from sensitivity.study.study import Progress, silent
from sensitivity.study.tasks import Engine, serial

#: Tables a language model can have, in the order of their cost.
TABLES = (
    "weight_error",
    "gauss_newton_trace",
    "fisher",
    "output_mse",
    "hessian_trace",
    "gauss_newton",
    "kl",
)
#: Those that are filled when nothing is said.
DEFAULT_TABLES = ("gauss_newton_trace", "fisher", "kl")
_KIND = ModelKind(
    next_token_loss,
    logits,
    "softmax_kl",
    {
        "weight_error": weight_error,
        "output_mse": output_mse,
        "gauss_newton": partial(gauss_newton, outputs=logits, together=False),
        "kl": partial(kl, logits=logits),
    },
)


def profile_language_model(
    model: nn.Module,
    batches: Sequence[Tensor],
    *,
    formats: Sequence[str],
    tables: Sequence[str] = DEFAULT_TABLES,
    resources: Sequence[str] = (WEIGHT_BYTES,),
    units: str = "none",
    runtime: str | None = None,
    exclude: Sequence[str] = (),
    rounding: Rounding = NEAREST,
    name: str = "",
    probes: int = 8,
    seed: int = 0,
    progress: Progress = silent,
    engine: Engine = serial,
    checkpoint: Path | None = None,
) -> Profile:
    """Profile a causal language model of transformers.

    Args:
        batches: (B, T) tokens each, from :func:`sensitivity.models.language_model.windows`.
        tables: Which of :data:`TABLES` to fill; :data:`DEFAULT_TABLES` when absent.
        resources: Names of ``sensitivity.resources.RESOURCES``.
        units: Layers that share a format, by :mod:`sensitivity.units.unit_rules`: ``vllm`` for what vLLM fuses.
        runtime: Who is to load the plan; see :func:`~sensitivity.profiling.profile_model.profile_model`.
        exclude: Names or globs of layers to leave in full precision.
        engine: Computes the entries of the tables.
        checkpoint: Folder that the model was loaded from: bytes outside the plan are those of its files.

    Returns:
        The profile.

    Raises:
        InvalidInputError: A table, format or rule for units is unknown.
    """
    return profile_kind(
        _KIND,
        model,
        batches,
        formats,
        tables,
        probes,
        name=name,
        resources=resources,
        units=units,
        runtime=runtime,
        exclude=exclude,
        rounding=rounding,
        seed=seed,
        progress=progress,
        engine=engine,
        checkpoint=checkpoint,
    )
