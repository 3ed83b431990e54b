"""Profiles as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "profile.json"
    path.write_text(json.dumps(document))
    return path
