"""The HTTP service as an ASGI application."""

from __future__ import annotations

from importlib import metadata

from fastapi import FastAPI

from allocator.schema import Strict
from api import failures, openapi, problems
from api.body_limit import BodyLimit
from api.resources import lifespan
from api.routes import allocations, jobs, profiles
from api.settings import Settings, load_settings

_DESCRIPTION = """
Which layer of a neural network gets how many bits. Send a **profile** (what each format would cost and spend in each
layer) and **budgets**; get back the best plan, with a bound that proves how good it is.
"""


class Health(Strict):
    """That the process is alive.

    Attributes:
        status: Always ``ok``.
        version: Version of bitalloc.
    """

    status: str
    version: str


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: Settings; read from the environment when absent.

    Returns:
        The application, for uvicorn or a test client.
    """
    settings = load_settings() if settings is None else settings
    version = metadata.version("bitalloc")
    app = FastAPI(title="bitalloc", version=version, description=_DESCRIPTION, lifespan=lifespan)
    app.state.settings = settings
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes)
    problems.install(app)
    failures.install(app)
    openapi.describe(app)
    app.include_router(profiles.router)
    app.include_router(allocations.router)
    app.include_router(jobs.router)

    @app.get("/healthz", tags=["operation"], summary="Is the process alive?")
    async def health() -> Health:
        return Health(status="ok", version=version)

    return app
