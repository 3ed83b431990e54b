"""Models of transformers from a folder: what is refused before they are loaded, and how they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from allocator import Fault, InvalidInputError
from quantize.checkpoints.config import read_config, require_original
from sensitivity.models.json_files import read_json


def require_model(folder: Path) -> dict[str, Any]:
    """Refuse a folder whose model cannot be measured as it is.

    Returns:
        Its ``config.json``.

    Raises:
        InvalidInputError: There is no model, but perhaps an adapter, or it is quantized already.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        base = (read_json(folder / "adapter_config.json") or {}).get("base_model_name_or_path")
        merge = "merge it (peft: merge_and_unload) and save that"
        detail = f"{str(folder)!r} holds an adapter of {base!r} and no model; {merge}"
        raise InvalidInputError(Fault("/model", detail))
    if not (folder / "config.json").is_file():
        detail = f"expected a folder with config.json, weights and tokenizer, got {str(folder)!r}"
        raise InvalidInputError(Fault("/model", detail))
    config = read_config(folder)
    require_original(config, folder)
    return config


def loaded(kind: Any, folder: Path, **options: Any) -> nn.Module:  # noqa: ANN401 - an Auto class of transformers
    """Load a model in single precision, whatever precision it is stored in.

    Attention is ``sdpa``, or what the model itself chooses where it has none (MPNet, DeBERTa).

    Args:
        kind: ``AutoModel`` or another of its kind.
        **options: Further options of ``from_pretrained``; left out where the model does not know them.

    Returns:
        The model, in evaluation mode.

    Raises:
        InvalidInputError: It cannot be loaded.
    """
    given = {"local_files_only": True, "dtype": torch.float32}
    attempts = [
        extra | attention
        for extra in ([options, {}] if options else [{}])
        for attention in ({"attn_implementation": "sdpa"}, {})
    ]
    first: Exception | None = None
    for attempt in attempts:
        try:
            model: nn.Module = kind.from_pretrained(folder, **given, **attempt)
        except (TypeError, ValueError, ImportError) as error:  # an option that the model does not know
            first = first or error
        except Exception as error:  # whatever the files say is wrong with them
            raise InvalidInputError(Fault("/model", _cannot(folder, error))) from error
        else:
            return model.eval()
    assert first is not None
    raise InvalidInputError(Fault("/model", _cannot(folder, first))) from first


def load_tokenizer(transformers: Any, folder: Path) -> Any:  # noqa: ANN401
    """Load the tokenizer of a model.

    Returns:
        The tokenizer.

    Raises:
        InvalidInputError: There is none that can be loaded.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the files say is wrong with them
        raise InvalidInputError(Fault("/model", f"its tokenizer: {_cannot(folder, error)}")) from error


def _cannot(folder: Path, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{str(folder)!r} cannot be loaded: {lines[0]}"
