"""API keys in the OpenAPI document, and the answers that any guarded route may give."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from api.problems.problem import answers

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key of `bitalloc keys create`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
# Without keys the service is open to its own machine, which the empty requirement says.
_EITHER: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {}]
_ANY = answers(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_WITH_BODY = answers(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def describe_keys(document: dict[str, Any]) -> None:
    """Say which operations need a key, and what else the middlewares may answer.

    Args:
        document: The OpenAPI document, which is changed.
    """
    document["components"]["securitySchemes"] = _SCHEMES
    for path, methods in document["paths"].items():
        for operation in methods.values() if path.startswith("/v1/") else ():
            operation["security"] = _EITHER
            for status, answer in (_ANY | (_WITH_BODY if "requestBody" in operation else {})).items():
                operation["responses"].setdefault(str(status), answer)
