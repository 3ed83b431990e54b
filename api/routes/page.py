"""``GET /``: the page, and the files it is made of. It talks to the public routes like any other client."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOLDER = Path(__file__).parents[1] / "page"
#: Nothing from elsewhere, nothing inline, no frames around it, no forms out of it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cache-control": "no-cache",  # ask again, answered with 304 while the file is the same
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page() -> FileResponse:
    """Serve the page."""  # noqa: DOC201
    return FileResponse(_FOLDER / "index.html", headers=_HEADERS)


def mount(app: FastAPI) -> None:
    """Serve the files of the page."""
    app.mount("/page", _PageFiles(directory=_FOLDER, follow_symlink=True))


class _PageFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response
