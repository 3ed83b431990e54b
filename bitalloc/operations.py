"""Bodies of the operations on profiles and plans, as service and client know them."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from allocator import Allocation
from allocator.analysis.difference import LayerDifference
from allocator.analysis.rank_agreement import Agreement
from allocator.contract.frames import frame_of_steps
from allocator.contract.remarks import Finding, Loss
from allocator.contract.request import Goals
from allocator.contract.schema import Name, Strict
from bitalloc.wire import AllocationId


class Reached(Strict):
    """What a method reaches under a budget.

    Attributes:
        budget: The most that may be spent.
        spend: What its plan spends.
        objective: Its objective.
    """

    budget: float
    spend: float
    objective: float


class FrontierAnswer(Strict):
    """Supported plans from the lightest to the best, and proved plans at budgets that were asked for.

    Supported plans are optimal for what they spend. They come as the lightest plan and changes of single layers:
    the plan after n steps is ``start`` with all changes whose ``step`` is at most n, in their order.

    Attributes:
        objective_name: What is optimised.
        maximise: Whether higher is better.
        resource: What is spent.
        unit: Its unit.
        layers: Layer names.
        formats: Format names.
        start: For each layer, the index of its format in the lightest plan.
        step: For each change, at which step it happens, from 1, rising.
        layer: For each change, the index of the layer.
        format: For each change, the index of the format that the layer changes to.
        spend: Spend after each number of steps, from 0.
        objective: Objective after each number of steps.
        price: What a unit of spend buys in each step, falling.
        knee: Number of steps to the plan where the front bends most.
        exact: Proved plans at the budgets that were asked for.
        baselines: Method to what it reaches under the same budgets, as many of them as there was time for.
        profile_sha256: The profile.
        version: Version of bitalloc.
    """

    objective_name: str
    maximise: bool
    resource: str
    unit: str
    layers: tuple[str, ...]
    formats: tuple[str, ...]
    start: tuple[int, ...]
    step: tuple[int, ...]
    layer: tuple[int, ...]
    format: tuple[int, ...]
    spend: tuple[float, ...]
    objective: tuple[float, ...]
    price: tuple[float, ...]
    knee: int
    exact: tuple[Allocation, ...] = ()
    baselines: dict[str, tuple[Reached, ...]] = {}
    profile_sha256: str
    version: str

    def to_frame(self) -> Any:  # noqa: ANN401 - pandas is optional
        """The supported plans as a pandas data frame, see :func:`~allocator.contract.frames.frame_of_steps`.

        Returns:
            A frame with a row for each number of steps.
        """
        return frame_of_steps(self.spend, self.objective, self.price)


class Side(Strict):
    """One side: a plan, or what to plan for under the budgets of the request.

    Attributes:
        assignment: Layer name to format name, for every layer.
        fusions: Names of the fusions that this assignment uses.
        allocation_id: Id of a stored allocation, instead of an assignment. It may be about another profile, as long as
            this one has its layers and formats.
        objective: What to plan for; the objective of the request where a side has neither.
    """

    assignment: dict[Name, Name] | None = None
    fusions: tuple[Name, ...] = ()
    allocation_id: AllocationId | None = None
    objective: Goals | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.assignment, self.allocation_id, self.objective]
        if sum(one is not None for one in given) > 1:
            raise _inconsistent("give an assignment or an allocation_id or an objective, only one of them")
        if self.assignment is None and self.fusions:
            raise _inconsistent("fusions go with an assignment; a plan that is solved for has its own")
        return self


class Compared(Strict):
    """One side of a comparison.

    Attributes:
        assignment: Layer name to format name; absent where no plan keeps the budgets.
        totals: Table name to the sum over the plan; absent where the table has no value for its formats.
        allocation: The plan with its proof, where it was solved for.
    """

    assignment: dict[str, str] | None = None
    totals: dict[str, float | None] = {}
    allocation: Allocation | None = None


class ComparisonAnswer(Strict):
    """Two plans side by side.

    Attributes:
        first: One side.
        second: The other side.
        layers: The layers that differ, in the order of the profile.
        alike: How many layers have the same format in both; absent where a side has no plan.
        agreement: Rank agreement of the second side's cost table with the first side's; absent where a side is not
            one cost table, or both are the same.
        profile_sha256: The profile.
        version: Version of bitalloc.
    """

    first: Compared
    second: Compared
    layers: tuple[LayerDifference, ...] = ()
    alike: int | None = None
    agreement: Agreement | None = None
    profile_sha256: str
    version: str


class ExportAnswer(Strict):
    """A plan in a tool's own words.

    Attributes:
        target: Whose format it is.
        files: File name to its text.
        losses: What the files do not say as the plan does.
        advice: What to do with the files.
        findings: What each runtime that reads the files would trip over, errors first.
        version: Version of bitalloc.
    """

    target: str
    files: dict[str, str]
    losses: tuple[Loss, ...]
    advice: str
    findings: dict[str, tuple[Finding, ...]] = {}
    version: str


class LintAnswer(Strict):
    """What a runtime would trip over.

    Attributes:
        runtime: Who is to load it.
        tested: The release whose source the rules follow.
        loads: Whether there are no errors; warnings do not count.
        findings: Errors first.
        version: Version of bitalloc.
    """

    runtime: str
    tested: str
    loads: bool
    findings: tuple[Finding, ...]
    version: str


def _inconsistent(message: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", "{message}", {"message": message})
