"""The OpenAPI document as a file: ``python -m api.documents.openapi > docs/openapi.json``."""

from __future__ import annotations

import json
import sys

from api.app import create_app
from api.settings import Settings


def written() -> str:
    """The document of the service, as ``docs/openapi.json`` holds it.

    Returns:
        JSON, sorted so that it only changes where it means something else.
    """
    return json.dumps(create_app(Settings()).openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(written())
