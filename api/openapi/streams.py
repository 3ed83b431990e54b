"""Server-sent events in the OpenAPI document."""

from __future__ import annotations

from typing import Any

_EVENTS = "text/event-stream"


def describe_streams(document: dict[str, Any]) -> None:
    """Describe streams of events in the words of OpenAPI 3.1, as a text.

    FastAPI describes each event under ``itemSchema``, which is of OpenAPI 3.2; in a document of 3.1, which is what most
    generators of clients read, validators refuse it.

    Args:
        document: The OpenAPI document, which is changed.
    """
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                content = response.get("content", {}).get(_EVENTS, {})
                if content.pop("itemSchema", None) is not None:
                    content["schema"] = {
                        "type": "string",
                        "description": "Server-sent events, one after the other.",
                    }
