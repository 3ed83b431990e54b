"""``config.json`` of a checkpoint, read in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError


def read_config(folder: Path, *, required: bool = True) -> dict[str, Any]:
    """Read the configuration of a checkpoint.

    Args:
        folder: The folder, or one of its files.
        required: Whether it is a fault that there is none.

    Returns:
        Its content; empty where there is none and none is required.

    Raises:
        InvalidInputError: It is missing, cannot be read, or is no JSON object.
    """
    path = (folder.parent if folder.is_file() else folder) / "config.json"
    if not required and not path.exists():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        detail = f"expected a folder with config.json, got {str(folder)!r}: {error.strerror}"
        raise InvalidInputError(Fault("/model", detail)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(Fault("/model", f"cannot read {str(path)!r}: {error}")) from error
    if not isinstance(config, dict):
        detail = f"cannot read {str(path)!r}: it is no JSON object"
        raise InvalidInputError(Fault("/model", detail))
    return config


def require_original(config: dict[str, Any], folder: Path) -> None:
    """Refuse a checkpoint that is quantized already: its codes are no weights.

    Args:
        folder: Its folder, for the message.

    Raises:
        InvalidInputError: It is quantized already.
    """
    if "quantization_config" in config:
        by = config["quantization_config"]
        method = by.get("quant_method", "another tool") if isinstance(by, dict) else "another tool"
        detail = f"{str(folder / 'config.json')!r} is quantized already, by {method}; start from the original"
        raise InvalidInputError(Fault("/model", detail))
