"""Would a runtime load a plan, or a configuration that any tool wrote?"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from allocator.contract.schema import Name, Strict
from allocator.contract.versions import installed_version
from api.operations.body import pointing_into_body
from api.operations.example_profile import LLAMA_PLAN
from api.operations.export import PlanDocument, place_of
from api.operations.known_model import KnownModel
from api.operations.operation import Listing, Operation, with_stored_plan
from bitalloc.operations import LintAnswer
from bitalloc.wire import AllocationId
from quantize.lint import RUNTIMES, lint_files, lint_plan


class LintRequest(Strict):
    """A plan or the files of a configuration, and who is to load it.

    Attributes:
        runtime: Who is to load it; ``GET /v1/lint`` lists them.
        plan: Layer name to format name, or an allocation as the service gave it.
        allocation_id: Id of a stored allocation, instead of a plan.
        files: File name to its text, instead of a plan.
        format: Whose configuration the files are, a target of ``GET /v1/exports``.
        model: Names, shapes and ties of the layers; without it they are not checked.
        names: Layer name to the tool's own name for it, for files.
    """

    runtime: Name
    plan: PlanDocument | None = None
    allocation_id: AllocationId | None = None
    files: Annotated[dict[Name, str], Field(min_length=1, max_length=16)] | None = None
    format: Name | None = None
    model: KnownModel | None = None
    names: dict[Name, Name] = {}

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.plan, self.allocation_id, self.files]
        if sum(one is not None for one in given) != 1:
            raise _inconsistent("give a plan or files or an allocation_id, and only one of them")
        if self.files is not None and self.format is None:
            raise _inconsistent("say whose configuration the files are", "format")
        if self.files is None and (self.format is not None or self.names):
            raise _inconsistent("a plan has no format and needs no names; they go with files")
        return self


class LintRuntime(Strict):
    """A runtime that plans can be checked against.

    Attributes:
        name: Its name, for ``runtime``.
        reads: Whose configurations it loads.
        tested: The release whose source the rules follow.
    """

    name: str
    reads: tuple[str, ...]
    tested: str


class LintRuntimes(Strict):
    """What plans can be checked against.

    Attributes:
        runtimes: The runtimes.
    """

    runtimes: tuple[LintRuntime, ...]


def linted(request: LintRequest) -> LintAnswer:
    """Check a plan or a configuration.

    Args:
        request: What to check, and against which runtime; with the stored allocation as its plan where it named one.

    Returns:
        The findings.
    """
    model = None if request.model is None else request.model.for_lint()
    if request.plan is not None:
        with pointing_into_body({"assignment": place_of(request.plan, request.allocation_id)}):
            found = lint_plan(request.plan, request.runtime, model)
    else:
        # What a file says wrong is pointed at inside the file, which the body only holds as text.
        with pointing_into_body({"runtime": "/runtime", "target": "/format"}, otherwise="/files"):
            found = lint_files(
                request.format or "", request.files or {}, request.runtime, model, request.names
            )
    return LintAnswer(
        runtime=request.runtime,
        tested=RUNTIMES[request.runtime].tested,
        loads=not any(finding.severity == "error" for finding in found),
        findings=found,
        version=installed_version("bitalloc"),
    )


def lint_runtimes() -> LintRuntimes:
    """Return what plans can be checked against, in the order of the registry."""
    return LintRuntimes(
        runtimes=tuple(
            LintRuntime(name=name, reads=tuple(sorted(runtime.reads)), tested=runtime.tested)
            for name, runtime in RUNTIMES.items()
        )
    )


def _inconsistent(message: str, *at: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", "{message}", {"message": message, "at": at})


_EXAMPLES: dict[str, Any] = {
    "a plan": {
        "summary": "vLLM fuses q and k, which have different formats here",
        "value": {"plan": LLAMA_PLAN, "runtime": "vllm"},
    },
    "files": {
        "summary": "A configuration as a tool wrote it, with the model's shapes",
        "value": {
            "runtime": "onnxruntime",
            "format": "olive",
            "files": {"quantization_config.json": '{"bits": 4, "group_size": 64, "symmetric": true}'},
            "model": {"shapes": {"up": [4096, 1000], "down": [1000, 4096]}},
        },
    },
}

OPERATION = Operation(
    path="/lint",
    tag="tools",
    summary="Say whether a runtime would load a plan",
    description=(
        "Check a plan, or a configuration that any tool wrote, against a runtime.\n"
        "\n"
        "`model` brings the names, shapes and ties of the layers; what is not known is not checked."
    ),
    request=LintRequest,
    answer=LintAnswer,
    compute=linted,
    examples=_EXAMPLES,
    with_stored=with_stored_plan,
    listing=Listing(
        summary="List the runtimes that plans can be checked against",
        description="Whose configurations each runtime loads, and which release the rules follow.",
        answer=LintRuntimes,
        compute=lint_runtimes,
    ),
)
