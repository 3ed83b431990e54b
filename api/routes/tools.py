"""``/v1/exports`` and ``/v1/lint``: plans for other tools and runtimes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body

from api.examples import EXPORTS, LINTS
from api.operations.export import ExportAnswer, ExportRequest, ExportTargets, export_targets, exported
from api.operations.lint import LintAnswer, LintRequest, LintRuntimes, lint_runtimes, linted
from api.problems import answers

router = APIRouter(prefix="/v1", tags=["tools"])
_ERRORS = answers(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED,
)


@router.get("/exports", summary="List the tools that plans can be exported for")
def list_exports() -> ExportTargets:
    """What each tool's configuration can express, and what to do with its files."""  # noqa: DOC201
    return export_targets()


@router.post("/exports", summary="Write a plan in a tool's own format", responses=_ERRORS)
def make_export(body: Annotated[ExportRequest, Body(openapi_examples=EXPORTS)]) -> ExportAnswer:
    """Render the files of a tool's configuration, and report what they cannot say.

    A format that the tool cannot express becomes the nearest one it can, or the layer is left as it is; each such layer
    is among the `losses`, which `strict` makes an error.
    """  # noqa: DOC201
    return exported(body)


@router.get("/lint", summary="List the runtimes that plans can be checked against")
def list_runtimes() -> LintRuntimes:
    """Whose configurations each runtime loads, and which release the rules follow."""  # noqa: DOC201
    return lint_runtimes()


@router.post("/lint", summary="Say whether a runtime would load a plan", responses=_ERRORS)
def make_lint(body: Annotated[LintRequest, Body(openapi_examples=LINTS)]) -> LintAnswer:
    """Check a plan, or a configuration that any tool wrote, against a runtime.

    `model` brings the names, shapes and ties of the layers; what is not known is not checked.
    """  # noqa: DOC201
    return linted(body)
