"""``/docs`` and ``/redoc``: the OpenAPI document to read and to try, from files of this machine.

FastAPI's own pages load Swagger UI and ReDoc from a CDN and are blank without the internet. The files come with the
package ``fastapi-offline``, for they are larger than anything in this repository may be; its code is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from allocator.contract.errors import require
from api.problems.problem import ProblemError

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bitalloc: the API</title>
<link rel="icon" href="data:,">
{body}
</html>
"""
_SWAGGER = """<link rel="stylesheet" href="/viewer/swagger-ui.css">
<div id="viewer"></div>
<script src="/viewer/swagger-ui-bundle.js"></script>
<script src="/viewer/start.js"></script>"""
_REDOC = """<style>body { margin: 0; }</style>
<redoc spec-url="/openapi.json"></redoc>
<script src="/viewer/redoc.standalone.js"></script>"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#viewer", deepLinking: true, validatorUrl: null, tryItOutEnabled: true
});
"""
#: Both set styles inline, and draw with pictures that are part of their code; ReDoc searches in a worker of its own.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES: Mapping[str, str] = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "redoc.standalone.js": "text/javascript",
}
_KEPT = {"cache-control": "max-age=3600"}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Serve Swagger UI."""  # noqa: DOC201
    return HTMLResponse(_PAGE.format(body=_SWAGGER), headers={"content-security-policy": _POLICY})


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """Serve ReDoc."""  # noqa: DOC201
    return HTMLResponse(_PAGE.format(body=_REDOC), headers={"content-security-policy": _POLICY})


@router.get("/viewer/start.js")
async def start() -> Response:
    """Start Swagger UI, outside of the page so that no inline script has to be allowed."""  # noqa: DOC201
    return Response(_START, media_type="text/javascript", headers=_KEPT)


@router.get("/viewer/{name}")
def file(name: str) -> FileResponse:
    """Serve a file of a viewer."""  # noqa: DOC201, DOC501
    if name not in _FILES:
        raise ProblemError(HTTPStatus.NOT_FOUND, "not-found", f"there is no file {name[:80]!r}")
    folder = Path(str(require("fastapi_offline", "service").__file__)).parent / "static"
    return FileResponse(folder / name, media_type=_FILES[name], headers=_KEPT)
