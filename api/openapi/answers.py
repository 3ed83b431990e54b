"""Answers as the service gave them, in the OpenAPI document; :mod:`api.documents.example_answers` asks anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ANSWERS = Path(__file__).with_name("example_answers.json")
#: Method and path → status and media type → name → summary and value.
Answers = dict[str, dict[str, dict[str, Any]]]


def describe_answers(document: dict[str, Any]) -> None:
    """Put the answers into the document.

    Args:
        document: The OpenAPI document, which is changed.
    """
    answers: Answers = json.loads(ANSWERS.read_text("utf-8"))
    for route, statuses in answers.items():
        method, path = route.split()
        for status, examples in statuses.items():
            code, kind = status.split()
            content = document["paths"][path][method.lower()]["responses"][code]["content"]
            content[kind]["examples"] = examples
