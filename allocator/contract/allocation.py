"""The answer: a plan with its proof."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from allocator.contract.errors import Fault, InvalidInputError, decoded, faults_of, pointer
from allocator.contract.frames import frame_of
from allocator.contract.identity import ModelIdentity
from allocator.contract.note import Note
from allocator.contract.schema import Strict
from allocator.contract.sources import json_in
from allocator.contract.status import Status


class Usage(Strict):
    """What the plan spends of one budget or limit.

    Attributes:
        used: Amount spent, recomputed from the table.
        limit: Most allowed; absent for demands.
        at_least: Least demanded; absent for budgets.
        slack: Room left to the nearer side; never negative beyond the stated tolerance for non-integer tables.
        unit: Unit of the amounts.
        shadow_price: How much the objective would improve per unit that the binding side gives way, at the margin;
            absent for peaks, and where time ran out.
    """

    used: float
    limit: float | None = None
    at_least: float | None = None
    slack: float
    unit: str
    shadow_price: float | None = None


class Certificate(Strict):
    """Objectives and limits recomputed from the tables, without the solver's word.

    Attributes:
        objective: Recomputed first objective.
        objectives: All recomputed objectives, in falling order of importance.
        used: Name of a budget or limit to the recomputed amount.
        violations: What is wrong with the plan; empty for a valid one.
    """

    objective: float
    objectives: tuple[float, ...]
    used: dict[str, float]
    violations: tuple[str, ...] = ()


class Reach(Strict):
    """What plans can reach of one budget or limit.

    Attributes:
        least: The least that any plan spends, whatever else was asked.
        most: The most that any plan spends.
        least_with_others: The least that a plan spends while it keeps everything else that was asked; absent where
            nothing else can be kept either.
        most_with_others: The most, likewise.
        nearest_below: The largest amount below what was asked that a plan spends while it keeps everything else; absent
            where there is none.
        nearest_above: The smallest amount above what was asked, likewise.
        bounds: Which of these amounts are only bounds, because time ran out: no plan that keeps everything else spends
            less than a bound on a least amount, or more than one on a most; whether one spends as much is not known.
        limit: Most allowed, as asked; absent for demands.
        at_least: Least demanded, as asked; absent for budgets.
        unit: Unit of the amounts.
    """

    least: float
    most: float
    least_with_others: float | None = None
    most_with_others: float | None = None
    nearest_below: float | None = None
    nearest_above: float | None = None
    bounds: tuple[
        Literal["least_with_others", "most_with_others", "nearest_below", "nearest_above"], ...
    ] = ()
    limit: float | None = None
    at_least: float | None = None
    unit: str = ""


class Level(Strict):
    """How far one objective of several was proved, among the plans that are best in all before it.

    Attributes:
        name: The objective.
        status: ``optimal`` where proved, else ``feasible``.
        objective: Of the plan.
        bound: No such plan has a better one; absent where nothing is known.
        gap: Distance between the two, relative to the larger.
    """

    name: str
    status: Status
    objective: float
    bound: float | None = None
    gap: Annotated[float, Field(ge=0, le=2)] | None = None


class SolverReport(Strict):
    """Who solved it and with how much work.

    Attributes:
        name: Name of the solver.
        why: Why it was picked, where the request left that open.
        version: Version of the package that did the work.
        seconds: Wall clock.
        work: Counts: dual evaluations, units in the core, states, nodes.
    """

    name: str
    why: str | None = None
    version: str
    seconds: float
    work: Mapping[str, int] = {}


class Allocation(Strict):
    """A plan with its proof, or the reason why there is none.

    Attributes:
        status: What was proved; ``optimal`` only with a proof.
        advice: What the status means for the reader.
        assignment: Layer name to format name; absent where there is no plan.
        fusions: Names of the fusions that the plan uses.
        objective_name: What was optimised first.
        objective: Recomputed from the tables.
        bound: No plan within the limits has a better objective.
        gap: Distance between objective and bound, relative to the larger.
        then: Further objectives by name, each optimised among the plans that are best in all before it.
        levels: With several objectives, how far each was proved; the status is ``optimal`` only where all are.
        tie_break: How the plan was chosen among equally good ones; absent where it was not.
        usage: Name of a budget or limit to what the plan spends of it.
        achievable: For infeasible requests: what each budget or limit would have to be.
        certificate: The independent check.
        left_out: Parts of the answer that the time limit left no time for, by name.
        solver: Who solved it.
        notes: What else the reader should know: what is outside the plan, how it compares with uniform by other
            tables, and where its table is not to be trusted.
        profile_sha256: The profile that was planned for.
        identity: The model that the profile was measured on, where it says; whoever applies the plan compares it.
        version: Version of bitalloc.
    """

    status: Status
    advice: str
    assignment: dict[str, str] | None = None
    fusions: tuple[str, ...] = ()
    objective_name: str
    objective: float | None = None
    bound: float | None = None
    gap: Annotated[float, Field(ge=0, le=2)] | None = None
    then: dict[str, float] = {}
    levels: tuple[Level, ...] = ()
    tie_break: str | None = None
    usage: dict[str, Usage] = {}
    achievable: dict[str, Reach] = {}
    certificate: Certificate | None = None
    left_out: tuple[str, ...] = ()
    solver: SolverReport
    notes: tuple[Note, ...] = ()
    profile_sha256: str
    identity: ModelIdentity | None = None
    version: str

    def to_frame(self) -> Any:  # noqa: ANN401 - pandas is optional
        """The assignment as a pandas data frame: one row for each layer, in the order of the profile.

        Returns:
            A frame with the index ``layer`` and the column ``format``.

        Raises:
            InvalidInputError: There is no plan.
            MissingPackageError: pandas is not installed.
        """
        if self.assignment is None:
            raise InvalidInputError(
                Fault("/assignment", f"there is no plan: the allocation is {self.status.value}")
            )
        return frame_of("layer", list(self.assignment), {"format": list(self.assignment.values())})


#: An allocation, layer name to format name, the JSON of either (``bytes``, or a ``str`` that begins with ``{``), or the
#: path of a JSON file.
PlanSource: TypeAlias = Allocation | Mapping[str, str] | str | bytes | Path


def load_plan(source: PlanSource) -> Allocation | dict[str, str]:
    """Coerce whatever describes a plan into one.

    Args:
        source: An allocation, also with the ``id`` that a service gave it; layer name to format name; the JSON of
            either; or the path of a JSON file. A ``str`` that begins with ``{`` is JSON; any other is a path.

    Returns:
        The allocation, or layer name to format name.

    Raises:
        InvalidInputError: The file cannot be read, or the content is no plan; names every offending field.

    Example:
        >>> load_plan('{"up": "int4-g64"}')
        {'up': 'int4-g64'}
    """
    if isinstance(source, Allocation):
        return source
    document: object = source
    if isinstance(source, (str, bytes, Path)):
        content = json_in(source, "plan")
        document = decoded(content)
        if document is None:
            raise InvalidInputError(Fault("", "expected a plan, got something that is no JSON"))
    if not isinstance(document, Mapping):
        detail = f"expected an allocation, or a table of layer and format, got {type(document).__name__}"
        raise InvalidInputError(Fault("", detail))
    if "solver" in document and not isinstance(document["solver"], str):
        try:
            return Allocation.model_validate({name: document[name] for name in document if name != "id"})
        except ValidationError as error:
            raise InvalidInputError(*faults_of(error.errors(), document)) from error
    if strange := [layer for layer, name in document.items() if not isinstance(name, str)]:
        raise InvalidInputError(
            *(
                Fault(pointer((str(layer),)), f"expected the name of a format, got {document[layer]!r}")
                for layer in strange
            )
        )
    return dict(document)
