"""``bitalloc serve``: the HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from allocator.contract.errors import require


def command(
    host: Annotated[
        str, typer.Option(help="Address to bind; others than this machine's own need API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind; 0 picks a free one.", min=0, max=65535)] = 8000,
) -> None:
    """Serve plans over HTTP until interrupted.

    Example: `bitalloc serve --port 8000`

    `POST /v1/allocations` plans; `/docs` shows the API with examples to try. Without API keys (`bitalloc keys
    create NAME`) it listens on this machine only. Settings come from the environment, see `docs/service.md`.
    """
    require("fastapi", "service")
    require("uvicorn", "service")
    from api.server import serve

    serve(host, port, lambda line: typer.echo(f"{line}\nthe API with examples is at /docs; stop with Ctrl-C"))
