"""The HTTP service as an ASGI application."""

from __future__ import annotations

from importlib import metadata

from fastapi import FastAPI

from api.middleware import stack
from api.observability.metrics import Metrics
from api.openapi import document as openapi
from api.problems import failures
from api.routes import allocations, jobs, operation, page, planning, profiles, viewer
from api.routes.resources import lifespan
from api.settings import Settings, load_settings

_DESCRIPTION = """
Which layer of a neural network gets how many bits. Send a **profile** (what each format would cost and spend in each
layer) and **budgets**; get back the best plan, with a bound that proves how good it is.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: Settings; read from the environment when absent.

    Returns:
        The application, for uvicorn or a test client.
    """
    settings = load_settings() if settings is None else settings
    version = metadata.version("bitalloc")
    app = FastAPI(
        title="bitalloc",
        version=version,
        description=_DESCRIPTION,
        docs_url=None,  # see api.routes.viewer
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.settings = settings
    app.state.metrics = Metrics()
    stack.install(app, settings, app.state.metrics)
    failures.install(app)
    openapi.describe(app)
    for router in (
        operation.router,
        profiles.router,
        allocations.router,
        jobs.router,
        planning.planning_router(),
        page.router,
        viewer.router,
    ):
        app.include_router(router)
    page.mount(app)
    return app
