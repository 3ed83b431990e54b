"""The request: what to minimise, under which budgets, and what is already decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias, TypedDict

from pydantic import Field, ValidationError

from allocator.contract.errors import InvalidInputError, faults_of
from allocator.contract.schema import Finite, Name, Size, Strict

#: A bare number, or a text with a unit: ``"12 MiB"``.
Amount = Finite | Annotated[str, Field(max_length=64)]


class Limit(Strict):
    """A row: what the chosen entries of a table add up to, or how many layers are counted, kept between two amounts.

    Attributes:
        name: For the answer; made up from the other fields when absent.
        table: A resource or cost; absent to count layers.
        layers: Names or globs of the layers that the row is over.
        formats: Names or globs of the formats that the row is over; other choices add nothing.
        each: A glob with ``{}`` where names differ (``model.layers.{}.*``): one row for each text that fits there.
        min: The least that the row may add up to.
        max: The most that the row may add up to.
    """

    name: Name | None = None
    table: Name | None = None
    layers: Annotated[tuple[Name, ...], Field(min_length=1)] = ("*",)
    formats: Annotated[tuple[Name, ...], Field(min_length=1)] = ("*",)
    each: Name | None = None
    min: Amount | None = None
    max: Amount | None = None


#: One table, or several with their weights.
Goal = Name | Annotated[dict[Name, Finite], Field(min_length=1)]
#: A goal, or several in falling order of importance.
Goals = Goal | Annotated[tuple[Goal, ...], Field(min_length=1)]


class Request(Strict):
    """What is asked of a profile.

    Attributes:
        objective: A cost or resource table, weights over several, or a list of these in falling order of importance;
            absent where the profile has one cost table.
        caution: Standard errors to add to every cost in the objective before it counts.
        budgets: Table name to the most it may add up to. ``effective_bits`` limits the stored bits per weight
            through the table ``weight_bytes``.
        limits: Rows that budgets cannot say: pools of layers, counts, bands.
        pin: Layer name or glob to the format it must have.
        allow: Layer name or glob to the only formats it may have.
        forbid: Layer name or glob to formats it must not have.
        solver: Name of the solver.
        gap: Stop once the plan is proved within this relative distance of the optimum; 0 asks for the optimum.
        time_limit_s: Answer within this time, with the best plan so far and its gap; parts of the answer that do not
            fit in are left out by name. Without one, a search ends after a default amount of work, which is the same
            on every machine.
        node_limit: Nodes of each branch and bound, where that should be more or less than what fits into the time or
            the default amount of work.
    """

    objective: Goals | None = None
    caution: Size = 0.0
    budgets: dict[Name, Amount] = {}
    limits: tuple[Limit, ...] = ()
    pin: dict[Name, Name] = {}
    allow: dict[Name, tuple[Name, ...]] = {}
    forbid: dict[Name, tuple[Name, ...]] = {}
    solver: Name = "auto"
    gap: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    time_limit_s: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None
    node_limit: Annotated[int, Field(strict=True, ge=1, lt=2**31)] | None = None


#: A goal as a program writes it, see :data:`Goals`.
AnyGoal: TypeAlias = str | Mapping[str, float]


class SharedFields(TypedDict, total=False):
    """The fields of :class:`Request` but its budgets, for functions that take several sets of budgets."""

    objective: AnyGoal | Sequence[AnyGoal] | None
    caution: float
    limits: Sequence[Limit | Mapping[str, object]]
    pin: Mapping[str, str]
    allow: Mapping[str, Sequence[str]]
    forbid: Mapping[str, Sequence[str]]
    solver: str
    gap: float
    time_limit_s: float | None
    node_limit: int | None


class RequestFields(SharedFields, total=False):
    """The fields of :class:`Request` as a program writes them, for ``**fields: Unpack[RequestFields]``."""

    budgets: Mapping[str, float | str]


def make_request(fields: Mapping[str, object] | SharedFields) -> Request:
    """Validate the fields of a request.

    Args:
        fields: Keyword arguments of :class:`Request`.

    Returns:
        The request.

    Raises:
        InvalidInputError: A field is unknown or of the wrong type; names every offending field.
    """
    try:
        return Request.model_validate(fields)
    except ValidationError as error:
        raise InvalidInputError(*faults_of(error.errors(), fields)) from error
