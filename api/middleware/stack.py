"""The middlewares in their order."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api.middleware.bodies import Bodies
from api.middleware.failures import Failures
from api.middleware.keys import Keys
from api.middleware.security_headers import SecurityHeaders
from api.observability.metrics import Metrics
from api.observability.requests import HEADER, Observe
from api.settings import Settings

_SENT = (
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "X-API-Key",
    "Prefer",
    "Idempotency-Key",
    "Last-Event-ID",
    HEADER,
)


def install(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Put the middlewares around an application.

    Args:
        metrics: Where requests are counted.
    """
    # Added last means outermost: read this list from the bottom.
    app.add_middleware(Bodies, limits=settings)
    app.add_middleware(Keys, max_requests_per_minute=settings.max_requests_per_minute)
    app.add_middleware(Failures)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=_SENT,
            expose_headers=["Location", "Retry-After", "Preference-Applied", HEADER],
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observe, metrics=metrics)
