"""Every estimator on one classifier, with what each needs beyond a study, and the plans that come from rankings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from torch import nn

from allocator import InvalidInputError, Profile
from allocator.knapsack.problem import FloatArray
from benchmarks.models.trained import Trained
from quantize import StorageFormat, parse_format
from sensitivity import (
    ESTIMATORS,
    Estimator,
    Study,
    discover,
    fisher,
    gauss_newton,
    hessian_trace,
    kl,
    lim,
    profile_model,
    two_level_plan,
)
from sensitivity.estimators.lim import lim_scores
from sensitivity.estimators.zd import zd_scores
from sensitivity.study.study import Progress, silent

#: Effective bits → layer → format.
Ranking: TypeAlias = Callable[[float], Mapping[str, str]]
#: Name of the table that is measured.
KL = "kl"


def profile_with_everything(
    trained: Trained, formats: Sequence[str], progress: Progress = silent
) -> tuple[Profile, dict[str, str]]:
    """Profile a model with every estimator there is.

    Args:
        trained: The model; profiled on its calibration batches.

    Returns:
        The profile, and for each estimator that the model is not made for, the reason.
    """
    profiles, refused = [], {}
    for name, estimate in {**ESTIMATORS, **_bound(trained)}.items():
        try:
            profiles.append(
                profile_model(
                    trained.model,
                    trained.calibration,
                    trained.loss,
                    formats,
                    {name: estimate},
                    name=trained.name,
                    progress=progress,
                )
            )
        except InvalidInputError as error:
            refused[name] = str(error)
    costs = {name: values for profile in profiles for name, values in profile.costs.items()}
    return profiles[0].model_copy(update={"costs": costs}), refused


def _bound(trained: Trained) -> dict[str, Estimator]:
    # Estimators that need more than a study, and variants.
    logits = trained.logits
    return {
        "hessian_trace, 64 probes": partial(hessian_trace, probes=64),
        "hessian_trace, Gauss-Newton": partial(
            hessian_trace, probes=64, curvature="gauss_newton", outputs=logits
        ),
        "fisher, labels sampled": partial(fisher, labels="sampled", outputs=logits),
        "gauss_newton": partial(gauss_newton, outputs=logits),
        "lim": partial(lim, blocks=_blocks(trained)),
        KL: partial(kl, logits=logits),
    }


def _blocks(trained: Trained) -> list[str] | None:
    # What a chain has for blocks: layers whose outputs can be compared with their inputs.
    convolutions = {
        name: module for name, module in trained.model.named_modules() if isinstance(module, nn.Conv2d)
    }
    whole = [name for name, module in convolutions.items() if module.in_channels == module.out_channels]
    return whole or None


def rankings(trained: Trained, formats: Sequence[str]) -> dict[str, Ranking]:
    """The plans that papers make of a ranking of blocks, with the two formats on either side of the budget.

    Args:
        trained: The model.
        formats: Columns, in the order of their size.

    Returns:
        Name to a function from effective bits to layer → format.
    """
    parsed = [parse_format(name) for name in formats]
    study = Study(
        trained.model, trained.calibration, trained.loss, discover(trained.model), tuple(parsed), 0, silent
    )
    scores = {"zd, two levels": zd_scores(study)}
    if blocks := _blocks(trained):
        scores["lim, two levels"] = lim_scores(study, blocks=blocks)
    return {name: partial(_lowered, study, found.importance, parsed) for name, found in scores.items()}


def _lowered(
    study: Study, importance: FloatArray, formats: Sequence[StorageFormat], bits: float
) -> dict[str, str]:
    shapes = [layer.weight.shape for layer in study.layers]
    limit = bits / 8 * sum(shape.numel() for shape in shapes)
    fitting = [item for item in formats if sum(map(item.stored_bytes, shapes)) <= limit]
    low = min(len(fitting), len(formats) - 1) - 1
    return two_level_plan(
        study.layers, importance, high=formats[low + 1], low=formats[low], effective_bits=bits
    )
