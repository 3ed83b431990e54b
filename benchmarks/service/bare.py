"""The limit: a FastAPI application that parses and validates the same body, and does nothing with it."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from bitalloc.wire import AllocationRequest

app = FastAPI()


@app.post("/v1/allocations")
async def allocate(body: AllocationRequest) -> dict[str, str | None]:
    """Answer with a field of what was parsed."""  # noqa: DOC201
    return {"model": None if body.profile is None else body.profile.model}


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listener])
