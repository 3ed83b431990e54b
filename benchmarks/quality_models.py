"""Two models too large to measure every plan of: what methods reach at equal bytes, on data seen and not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from allocator import Profile, load_profile, solve
from benchmarks.evolution import evolve
from benchmarks.models import stdlib_llama
from benchmarks.models.trained import kl_divergence
from quantize.feedback import Refined, refine
from sensitivity import Estimator, fisher, kl, output_mse, profile_model, weight_error
from sensitivity.plans.planned import Planned, distance_of_plans
from sensitivity.pretrained.docstrings import docstring_pairs
from sensitivity.pretrained.retrieval import RetrievalTask
from sensitivity.pretrained.text_encoder import (
    cosine_distance,
    encode,
    load_text_encoder,
    minilm_folder,
    pair_batches,
)

BUDGETS = (2.5, 3.0, 3.5, 4.0, 5.0)
_FORMATS = ("int2-g64", "int3-g64", "int4-g64", "int5-g64", "int8-g64")
_MINILM = Path(__file__).parents[1] / "examples" / "minilm.json"

Plan = Mapping[str, str]
#: Title → (method → one number per budget).
Tables = dict[str, dict[str, list[float]]]


def language(budgets: Sequence[float], evaluations: int, seeds: int) -> Tables:
    """The small Llama.

    Args:
        budgets: Effective bits.
        evaluations: Plans that each search may measure.
        seeds: Seeds of each search; means are reported.

    Returns:
        KL on the calibration text that searches see, KL and perplexity on held-out text.
    """
    trained = stdlib_llama.load()
    seen, unseen = trained.calibration[:4], trained.held_out[:8]
    tables: dict[str, Estimator] = {
        "kl": partial(kl, logits=trained.logits),
        "fisher": fisher,
        "output_mse": output_mse,
        "weight_error": weight_error,
    }
    profile = profile_model(trained.model, seen, trained.loss, _FORMATS, tables)
    planned = Planned(trained.model)
    measures = [
        distance_of_plans(trained.model, data, trained.logits, kl_divergence, planned)
        for data in (seen, unseen)
    ]

    def perplexity(plan: Plan) -> float:
        with planned.applied(plan), torch.inference_mode():
            losses = torch.cat([trained.loss(trained.model, batch) for batch in unseen])
        return math.exp(losses.double().mean().item())

    reports = {
        "KL on the text that searches see, nats": measures[0],
        "KL on held-out text, nats": measures[1],
        "perplexity on held-out text": perplexity,
    }
    return _compared(profile, "kl", measures[0], reports, budgets, evaluations, seeds)


def encoder(budgets: Sequence[float], evaluations: int, seeds: int) -> Tables:
    """all-MiniLM-L6-v2, from the profile that the demo measured.

    Args:
        budgets: Effective bits.
        evaluations: Plans that each search may measure.
        seeds: Seeds of each search; means are reported.

    Returns:
        Embedding distance on the pairs that searches see, distance and recall@1 on held-out pairs.
    """
    model, tokenizer = load_text_encoder(minilm_folder(), max_tokens=48)
    pairs = docstring_pairs(200)
    seen, held_out = pair_batches(tokenizer, pairs[0:32:2], 16), pairs[1:200:2]
    profile = load_profile(_MINILM)
    planned = Planned(model)
    measure = distance_of_plans(model, seen, encode, cosine_distance, planned)
    task = RetrievalTask.of(held_out, tokenizer, partial(encode, model))
    kept: dict[tuple[str, ...], tuple[float, float]] = {}

    def quality(at: int, plan: Plan) -> float:
        key = tuple(plan.values())
        if key not in kept:
            with planned.applied(plan):
                found = task.evaluate(partial(encode, model))
            kept[key] = found.distance, found.recall_at_1
        return kept[key][at]

    reports = {
        "embedding distance on the pairs that searches see": measure,
        "embedding distance on held-out pairs": partial(quality, 0),
        "recall@1 on held-out pairs": partial(quality, 1),
    }
    return _compared(profile, "embedding_distance", measure, reports, budgets, evaluations, seeds)


def _compared(
    profile: Profile,
    objective: str,
    measure: Callable[[Plan], float],
    reports: Mapping[str, Callable[[Plan], float]],
    budgets: Sequence[float],
    evaluations: int,
    seeds: int,
) -> Tables:
    found: Tables = {title: {} for title in reports}
    for bits in budgets:
        plans = {
            "full precision": [{}],
            **_plans(profile, objective, measure, bits, evaluations, seeds),
        }
        for method, chosen in plans.items():
            for title, report in reports.items():
                value = float(np.mean([report(plan) for plan in chosen]))
                found[title].setdefault(method, []).append(value)
    return found


def _plans(
    profile: Profile,
    objective: str,
    measure: Callable[[Plan], float],
    bits: float,
    evaluations: int,
    seeds: int,
) -> dict[str, list[Plan]]:
    request = {"budgets": {"effective_bits": bits}}
    plans: dict[str, list[Plan]] = {}
    for name in ("uniform", "greedy"):
        plans[name] = [solve(profile, objective=objective, solver=name, **request).assignment or {}]
    for table in profile.costs:
        plans[f"one shot, {table}"] = [solve(profile, objective=table, **request).assignment or {}]
    for seed in range(seeds):
        refined = refine(
            profile,
            measure,
            max_evaluations=evaluations,
            patience=evaluations,
            seed=seed,
            objective=objective,
            **request,
        )
        plans.setdefault("refine", []).append(refined.best.assignment)
        evolved = _evolved(profile, refined, measure, bits, evaluations, seed)
        plans.setdefault("evolution", []).append(evolved)
    return plans


def _evolved(
    profile: Profile,
    refined: Refined,
    measure: Callable[[Plan], float],
    bits: float,
    evaluations: int,
    seed: int,
) -> Plan:
    names, columns = [layer.name for layer in profile.layers], list(profile.formats)

    def plan_of(choice: np.ndarray) -> dict[str, str]:
        return {name: columns[column] for name, column in zip(names, choice.tolist(), strict=True)}

    known = {
        tuple(trial.choice.tolist()): trial.loss for trial in refined.trials
    }  # spares time, not evaluations
    found = evolve(
        np.array(profile.resources["weight_bytes"].values, dtype=float),
        bits / 8 * sum(layer.parameters or 0 for layer in profile.layers),
        [trial.choice for trial in refined.trials if trial.origins != ("search",)],
        lambda choice: known.get(tuple(choice.tolist())) or measure(plan_of(choice)),
        evaluations=evaluations,
        seed=seed,
    )
    return plan_of(min(found, key=lambda item: item[1])[0])
