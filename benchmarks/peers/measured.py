"""A peer's plans and ours, on the same formats, in the same bytes, with the same rounding: what they measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from allocator import CostTable, Profile, load_profile, solve
from allocator.answer.certificate import total
from allocator.knapsack.tables import WEIGHT_BYTES
from benchmarks.environments import ROOT, Owner, run_module
from benchmarks.models.cache import cached
from benchmarks.peers.question import Answer, Plan, Question, read_answer, write_question
from quantize.feedback import refine
from sensitivity import measured, profile_model
from sensitivity.plans.planned import Planned, distance_of_plans
from sensitivity.pretrained.docstrings import docstring_pairs
from sensitivity.pretrained.text_encoder import (
    cosine_distance,
    encode,
    info_nce,
    load_text_encoder,
    minilm_folder,
    pair_batches,
)

OBJECTIVE = "embedding_distance"
_THEIRS = "their_scores"


@dataclass(frozen=True)
class Peer:
    """A tool that plans.

    Attributes:
        owner: Its package.
        module: Runs in its environment, see :func:`benchmarks.peers.question.reply`.
        questions: What it is asked, without layers and data.
    """

    owner: Owner
    module: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Subject:
    """The model that all plan for.

    Attributes:
        profile: Our table, measured on the pairs that peers see, of all formats in question.
        pairs: Those pairs.
        seen: Plan → mean distance on them.
        held_out: Plan → mean distance on others.
    """

    profile: Profile
    pairs: Sequence[tuple[str, str]]
    seen: Callable[[Plan], float]
    held_out: Callable[[Plan], float]


@dataclass(frozen=True)
class Row:
    """One budget.

    Attributes:
        peer: Name of the peer.
        method: What the peer calls its method.
        formats: The formats that all chose from.
        asked: The budget in the peer's terms.
        budget_bytes: What the peer's plan stores, exactly; the budget of all other plans.
        seen: Planner → distance on the pairs that it saw.
        held_out: Planner → distance on other pairs.
    """

    peer: str
    method: str
    formats: tuple[str, ...]
    asked: float
    budget_bytes: float
    seen: Mapping[str, float]
    held_out: Mapping[str, float]


def minilm(formats: Sequence[str]) -> Subject:
    """all-MiniLM-L6-v2 without its embeddings, and the pairs of :func:`benchmarks.quality_models.encoder`.

    Args:
        formats: All formats in question.

    Returns:
        The subject.
    """
    model, tokenizer = load_text_encoder(minilm_folder(), max_tokens=48)
    pairs = docstring_pairs(200)
    seen, held_out = (pair_batches(tokenizer, chosen, 16) for chosen in (pairs[0:32:2], pairs[1:200:2]))
    table = partial(
        measured,
        name=OBJECTIVE,
        outputs=encode,
        distance=cosine_distance,
        meaning="1 - cosine between the original's and the changed model's embedding, mean over texts",
    )

    def write(path: Path) -> None:
        options = {"name": "all-MiniLM-L6-v2", "exclude": ["*embeddings*"]}
        profile = profile_model(model, seen, info_nce, formats, {OBJECTIVE: table}, **options)
        path.write_text(profile.model_dump_json())

    made_from = [dict(model.state_dict()), seen, list(formats), torch.__version__]
    profile = load_profile(cached("minilm_table", ".json", made_from, write))
    planned = Planned(model)
    measures = [
        _once(distance_of_plans(model, batches, encode, cosine_distance, planned))
        for batches in (seen, held_out)
    ]
    return Subject(profile, pairs[0:32:2], *measures)


def _once(measure: Callable[[Plan], float]) -> Callable[[Plan], float]:
    known: dict[tuple[tuple[str, str], ...], float] = {}

    def remembered(plan: Plan) -> float:
        key = tuple(sorted(plan.items()))
        if key not in known:
            known[key] = measure(plan)
        return known[key]

    return remembered


def ask(peer: Peer, question: Question, subject: Subject) -> Answer:
    """Put a question to a peer, in its own environment; an answer is kept, like all that takes long.

    Args:
        question: Formats and budgets.
        subject: The model.

    Returns:
        Its answer.
    """
    layers = tuple(layer.name for layer in subject.profile.layers)
    whole = replace(question, layers=layers, pairs=tuple(subject.pairs))

    def write(path: Path) -> None:
        asked = path.with_suffix(".question")
        write_question(whole, asked)
        try:
            run_module(peer.owner, peer.module, asked, path)
        finally:
            asked.unlink()

    code = (ROOT / f"{peer.module.replace('.', '/')}.py").read_text("utf-8")
    name = peer.module.rpartition(".")[2]
    made_from = [asdict(whole), asdict(peer.owner), code]
    return read_answer(cached(f"peer_{name}", ".json", made_from, write), whole)


def rivals(
    profile: Profile,
    formats: Sequence[str],
    theirs: Plan,
    scores: Mapping[str, Mapping[str, float]],
    measure: Callable[[Plan], float],
    evaluations: int,
) -> tuple[float, dict[str, Plan]]:
    """Plan for exactly the bytes of a peer's plan.

    Args:
        profile: Our table.
        formats: The only formats that plans may use.
        scores: The peer's own costs by layer and format, or nothing.
        measure: What ``refine`` measures plans with.
        evaluations: Plans that it may measure; 0 leaves it out.

    Returns:
        The bytes, and planner → plan: the peer, our solver on its scores, on our table, and ``refine``.
    """
    budget = total(profile, WEIGHT_BYTES, theirs)
    request = {"budgets": {WEIGHT_BYTES: budget}, "allow": {"*": tuple(formats)}}
    plans: dict[str, Plan] = {"peer": theirs}
    if scores:
        plans["peer's scores, our solver"] = (
            solve(with_scores(profile, scores), objective=_THEIRS, **request).assignment or {}
        )
    plans["ours, one shot"] = solve(profile, objective=OBJECTIVE, **request).assignment or {}
    if evaluations:
        effort = {"max_evaluations": evaluations, "patience": evaluations}
        plans["ours, refine"] = refine(
            profile, measure, objective=OBJECTIVE, **effort, **request
        ).best.assignment
    return budget, plans


def with_scores(profile: Profile, scores: Mapping[str, Mapping[str, float]]) -> Profile:
    """Add a peer's scores to a profile.

    Args:
        scores: Costs by layer and format; formats that it did not score are not to be chosen.

    Returns:
        The profile with one more cost table.
    """
    values = tuple(
        tuple(scores[layer.name].get(name) for name in profile.formats) for layer in profile.layers
    )
    return profile.model_copy(update={"costs": {**profile.costs, _THEIRS: CostTable(values=values)}})


def rows(name: str, question: Question, answer: Answer, subject: Subject, evaluations: int) -> Iterator[Row]:
    """Measure a peer's answer beside ours.

    Args:
        question: What was asked.
        answer: The peer's plans.
        subject: The model.
        evaluations: Plans that ``refine`` may measure; 0 leaves it out.

    Yields:
        One row for each budget of each of the peer's methods.
    """
    for method, plans in answer.plans.items():
        for asked, theirs in zip(question.asked, plans, strict=True):
            scores = answer.scores.get(method, {})
            budget, found = rivals(
                subject.profile, question.formats, theirs, scores, subject.seen, evaluations
            )
            seen, held_out = (
                {planner: measure(plan) for planner, plan in found.items()}
                for measure in (subject.seen, subject.held_out)
            )
            yield Row(name, method, question.formats, asked, budget, seen, held_out)
