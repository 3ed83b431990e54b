"""How a sentence encoder makes one vector of many tokens, as its folder says.

Source: sentence-transformers 5, ``models/Pooling.py`` and ``modules.json``; without these files it takes the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allocator import Fault, InvalidInputError
from allocator.contract.errors import unknown
from sensitivity.models.json_files import read_json


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(1) / mask.sum(1)


def _mean_sqrt_len(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(1) / mask.sum(1).sqrt()


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    del mask
    return hidden[:, 0]


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    steps = torch.arange(mask.shape[1], device=mask.device, dtype=mask.dtype)[None, :, None]
    return (hidden * (steps == (steps * mask).amax(1, keepdim=True)).to(hidden.dtype)).sum(1)


def _largest(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask == 0, -1e9).amax(1)


def _weighted(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=mask.dtype)[None, :, None]
    return (hidden * weights).sum(1) / weights.sum(1)


#: Name in ``1_Pooling/config.json`` → (B, T, D) hidden states and (B, T, 1) mask → (B, D).
POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls_token": _first,
    "max_tokens": _largest,
    "mean_tokens": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean_tokens": _weighted,
    "lasttoken": _last,
}
#: What is taken where nothing says otherwise.
DEFAULT: tuple[str, ...] = ("mean_tokens",)
_SHORT = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "weightedmean": "weightedmean_tokens",
}
_NEUTRAL = ("Normalize", "Dropout")


def pooled(hidden: Tensor, attention_mask: Tensor, poolings: Sequence[str] = DEFAULT) -> Tensor:
    """Make one vector of many tokens.

    Args:
        hidden: (B, T, D) hidden states.
        attention_mask: (B, T), 1 for tokens and 0 for padding.
        poolings: Names in :data:`POOLINGS`; several are put side by side.

    Returns:
        (B, D) vectors, wider where there are several.

    Example:
        >>> hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> mask = torch.tensor([[1, 1, 0]])
        >>> [pooled(hidden, mask, [name]).item() for name in ("cls_token", "mean_tokens", "lasttoken", "max_tokens")]
        [1.0, 2.0, 3.0, 3.0]
    """
    mask = attention_mask[..., None].to(hidden.dtype)  # (B, T, 1)
    parts = [POOLINGS[name](hidden, mask) for name in poolings]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def modules_of_folder(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Read which folder holds the transformer of a sentence encoder, and how its tokens are pooled.

    Returns:
        Folder of the transformer, and names in :data:`POOLINGS`.

    Raises:
        InvalidInputError: A file cannot be read, or the encoder has a module that is not known here.
    """
    modules = read_json(folder / "modules.json")
    if modules is None:
        return folder, DEFAULT
    if not isinstance(modules, list) or not all(isinstance(item, dict) for item in modules):
        raise InvalidInputError(Fault("/model", f"'{folder / 'modules.json'}': expected a list of modules"))
    transformer, poolings = folder, DEFAULT
    for item in modules:
        kind, path = str(item.get("type", "")).rpartition(".")[2], folder / str(item.get("path", ""))
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            poolings = _poolings(path / "config.json")
        elif kind not in _NEUTRAL:
            detail = (
                f"{str(folder)!r} ends with a {kind or 'module without a type'}, which is not known here; known: "
                "Transformer, Pooling, Normalize; profile it from Python with sensitivity.profile_model"
            )
            raise InvalidInputError(Fault("/model", detail))
    return transformer, poolings


def _poolings(path: Path) -> tuple[str, ...]:
    config: Any = read_json(path)
    if not isinstance(config, dict):
        raise InvalidInputError(Fault("/model", f"{str(path)!r}: expected how tokens are pooled, found none"))
    if isinstance(mode := config.get("pooling_mode"), str):
        names = [_SHORT.get(mode, mode)]
    else:
        prefix = "pooling_mode_"
        names = [
            key.removeprefix(prefix) for key, on in config.items() if key.startswith(prefix) and on is True
        ]
    for name in names:
        if name not in POOLINGS:
            raise InvalidInputError(Fault("/model", f"{str(path)!r}: {unknown(name, POOLINGS, 'pooling')}"))
    return tuple(name for name in POOLINGS if name in names) or DEFAULT
