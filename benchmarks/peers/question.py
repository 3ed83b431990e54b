"""What a peer is asked and what it answers: JSON files, since each peer runs in an environment of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown

Plan = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """One set of formats, and several budgets in the peer's own terms.

    Attributes:
        formats: The only formats that plans may use.
        asked: Budgets: mean stored bits per weight, or the share of weights in the first format, whichever the peer
            takes.
        layers: The layers that the plan is about; all others stay as they are.
        pairs: Calibration texts, (query, document).
    """

    formats: tuple[str, ...]
    asked: tuple[float, ...]
    layers: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """A peer's plans.

    Attributes:
        plans: What the peer calls its method → one plan for each budget that was asked.
        scores: The peer's own costs by method, layer and format, where it tells them.
        version: Of the peer.
        seconds: All methods together, loading included.
    """

    plans: Mapping[str, Sequence[Plan]]
    scores: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    version: str = ""
    seconds: float = 0.0


def reply(distribution: str, answer: Callable[[Question], Answer]) -> None:
    """Run as a program inside a peer's environment: reads one file, writes another.

    Args:
        distribution: Name of the peer's package.
        answer: Asks the peer.
    """
    source, target = map(Path, sys.argv[1:])
    began = time.perf_counter()
    found = asdict(answer(read_question(source)))
    found["version"], found["seconds"] = metadata.version(distribution), time.perf_counter() - began
    target.write_text(json.dumps(found))


def write_question(question: Question, path: Path) -> None:
    """Write a question for a peer."""
    path.write_text(json.dumps(asdict(question)))


def read_question(path: Path) -> Question:
    """Read a question.

    Args:
        path: File that :func:`write_question` wrote.

    Returns:
        The same question.
    """
    found = json.loads(path.read_text())
    pairs = tuple((query, document) for query, document in found.pop("pairs"))
    return Question(**{name: tuple(values) for name, values in found.items()}, pairs=pairs)


def read_answer(path: Path, question: Question) -> Answer:
    """Read a peer's answer, and hold it to the question.

    Args:
        path: File that :func:`reply` wrote.
        question: What was asked.

    Returns:
        The answer.

    Raises:
        InvalidInputError: A plan is missing, is not about exactly the layers of the question, or uses another format.
    """
    answer = Answer(**json.loads(path.read_text()))
    faults: list[Fault] = []
    for method, plans in answer.plans.items():
        where = ("plans", method)
        if len(plans) != len(question.asked):
            detail = f"expected a plan for each of {len(question.asked)} budgets, got {len(plans)}"
            faults.append(Fault(pointer(where), detail))
        for index, plan in enumerate(plans):
            faults += _faults_of(plan, question, (*where, index))
    if faults:
        raise InvalidInputError(*faults)
    return answer


def _faults_of(plan: Plan, question: Question, where: tuple[str | int, ...]) -> list[Fault]:
    faults = [
        Fault(pointer((*where, layer)), unknown(layer, question.layers, "layer"))
        for layer in plan
        if layer not in question.layers
    ]
    faults += [
        Fault(pointer((*where, layer)), "the peer left this layer out; expected a format for every layer")
        for layer in question.layers
        if layer not in plan
    ]
    return faults + [
        Fault(pointer((*where, layer)), unknown(name, question.formats, "format"))
        for layer, name in plan.items()
        if name not in question.formats
    ]
