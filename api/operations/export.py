"""A plan in another tool's own configuration format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from allocator import Allocation
from allocator.contract.schema import Name, Strict
from allocator.contract.versions import installed_version
from api.operations.body import pointing_into_body
from api.operations.example_profile import LLAMA_PLAN
from api.operations.known_model import KnownModel
from api.operations.operation import Listing, Operation, PlannedAllocation, with_stored_plan
from bitalloc.operations import ExportAnswer
from bitalloc.wire import AllocationId
from quantize.exports import EXPORTS, export
from quantize.lint.gate import findings_of_export, require_readable


def _kind(value: object) -> str:
    # Without this, a table with one odd entry would be told that it lacks every field of an allocation.
    whole = isinstance(value, Mapping) and isinstance(value.get("solver"), Mapping)
    return "allocation" if whole or isinstance(value, Allocation) else "table of formats"


#: A table of layer and format, or an allocation as the service gave it.
PlanDocument = Annotated[
    Annotated[dict[Name, Name], Field(min_length=1), Tag("table of formats")]
    | Annotated[PlannedAllocation, Tag("allocation")],
    Discriminator(_kind),
]


class ExportRequest(Strict):
    """A plan, and whose format it is wanted in.

    Attributes:
        plan: Layer name to format name, or an allocation as the service gave it.
        allocation_id: Id of a stored allocation, instead of a plan.
        target: Whose format; ``GET /v1/exports`` lists them.
        others: Layers outside the plan, which the files should say to leave alone.
        names: Layer name to the tool's own name for it, where its rule does not give it.
        strict: Whether a loss is an error.
        model: Names, shapes and ties of the layers: those outside the plan are left alone, and groups have to make up a
            row.
        runtime: The one runtime that has to load the files; any of those that read them when absent.
        force: Whether files that no runtime would load are written all the same.
    """

    plan: PlanDocument | None = None
    allocation_id: AllocationId | None = None
    target: Name
    others: tuple[Name, ...] = ()
    names: dict[Name, Name] = {}
    strict: Annotated[bool, Field(strict=True)] = False
    model: KnownModel | None = None
    runtime: Name | None = None
    force: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.plan is None) == (self.allocation_id is None):
            message = "give a plan or an allocation_id, and not both"
            raise PydanticCustomError("inconsistent", "{message}", {"message": message})
        return self


class ExportTarget(Strict):
    """A tool that a plan can be exported for.

    Attributes:
        name: Its name, for ``target``.
        formats: What its configuration can express.
        advice: What to do with its files.
    """

    name: str
    formats: str
    advice: str


class ExportTargets(Strict):
    """What plans can be exported for.

    Attributes:
        targets: The tools.
    """

    targets: tuple[ExportTarget, ...]


def place_of(plan: object, allocation_id: str | None) -> str:
    """Tell where the body of a request says which layer has which format.

    Args:
        allocation_id: Its allocation, if it named one; faults then point into that.

    Returns:
        The pointer.

    Example:
        >>> place_of({"up": "int4"}, None), place_of({}, "0" * 32)
        ('/plan', '/allocation_id')
    """
    if allocation_id is not None:
        return "/allocation_id"
    return "/plan/assignment" if isinstance(plan, Allocation) else "/plan"


def exported(request: ExportRequest) -> ExportAnswer:
    """Export a plan.

    Args:
        request: Plan and target; with the stored allocation as its plan where it named one.

    Returns:
        The files, what they cannot say, and what runtimes would trip over.
    """
    place = place_of(request.plan, request.allocation_id)
    shapes = {} if request.model is None else request.model.shapes
    with pointing_into_body({"assignment": place, "target": "/target"}):
        done = export(
            request.plan or {},
            request.target,
            others=(*request.others, *shapes),
            names=request.names,
            shapes=shapes,
            strict=request.strict,
        )
        found = findings_of_export(
            done,
            _layers(request.plan),
            None if request.model is None else request.model.for_lint(),
            names=request.names,
            runtime=request.runtime,
        )
        require_readable(found, insist=request.force)
    return ExportAnswer(
        target=done.target,
        files=dict(done.files),
        losses=done.losses,
        advice=done.advice,
        findings=found,
        version=installed_version("bitalloc"),
    )


def _layers(plan: Mapping[str, str] | Allocation | None) -> Mapping[str, str]:
    return (plan.assignment if isinstance(plan, Allocation) else plan) or {}


def export_targets() -> ExportTargets:
    """Return what plans can be exported for, in the order of the registry."""
    return ExportTargets(
        targets=tuple(
            ExportTarget(name=name, formats=target.mask.describe(), advice=target.advice)
            for name, target in EXPORTS.items()
        )
    )


_EXAMPLES: dict[str, Any] = {
    "compressed-tensors": {
        "summary": "What vLLM reads from a checkpoint's config.json",
        "value": {"plan": LLAMA_PLAN, "target": "compressed-tensors", "others": ["lm_head"]},
    },
    "a loss": {
        "summary": "MLX has no symmetric formats: each layer is in the loss report",
        "value": {"plan": LLAMA_PLAN, "target": "mlx"},
    },
}

OPERATION = Operation(
    path="/exports",
    tag="tools",
    summary="Write a plan in a tool's own format",
    description=(
        "Render the files of a tool's configuration, and report what they cannot say.\n"
        "\n"
        "A format that the tool cannot express becomes the nearest one it can, or the layer is left as it is; "
        "each such layer\n"
        "is among the `losses`, which `strict` makes an error. What no runtime would load is refused, as by "
        "`POST /v1/lint`; `force` insists."
    ),
    request=ExportRequest,
    answer=ExportAnswer,
    compute=exported,
    examples=_EXAMPLES,
    with_stored=with_stored_plan,
    listing=Listing(
        summary="List the tools that plans can be exported for",
        description="What each tool's configuration can express, and what to do with its files.",
        answer=ExportTargets,
        compute=export_targets,
    ),
)
