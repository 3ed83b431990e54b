"""Small JSON files of a model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read a file that a folder may have.

    Returns:
        Its content; None where there is no such file.

    Raises:
        InvalidInputError: It cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(Fault("/model", f"cannot read {str(path)!r}: {error}")) from error
