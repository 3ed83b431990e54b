"""Other people's readers take the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from api.documents.openapi import written
from api.openapi.document import describe_streams


def test_the_document_is_valid() -> None:
    document = json.loads(written())
    assert document["openapi"] == "3.1.0"
    validate(document, cls=OpenAPIV31SpecValidator)


def test_events_are_described_as_a_text() -> None:
    content: dict[str, Any] = {"text/event-stream": {"itemSchema": {"type": "object"}}}
    document = {"paths": {"/x": {"get": {"responses": {"200": {"content": content}, "204": {}}}}}}
    describe_streams(document)
    assert content["text/event-stream"].keys() == {"schema"}
    assert content["text/event-stream"]["schema"]["type"] == "string"
    assert "itemSchema" not in written()
