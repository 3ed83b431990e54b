"""What a module stores and no row is about: parameters and buffers, each once, with bytes and reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from allocator import InvalidInputError, Outside
from quantize.checkpoints.outside import EXPERTS, outside_of_folder
from sensitivity.models.layers import LayerRef, quantizable
from sensitivity.rows import ExpertRef, Row


def outside_of(
    model: nn.Module,
    rows: Sequence[Row],
    checkpoint: Path | None = None,
    kept: Mapping[str, str] | None = None,
) -> tuple[Outside, ...]:
    """List what a profile leaves out.

    Args:
        kept: Layer that could have a row → why it has none, where that is known.
        checkpoint: Folder that the model was loaded from: then every tensor of its files is looked at, with its bytes
            there; else (or without safetensors) the tensors of the module, with their bytes in memory.

    Returns:
        In the order of the model or checkpoint; what is tied is listed once.

    Example:
        >>> from sensitivity.rows import find_rows
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        >>> layers, others = find_rows(model, ["weight"])
        >>> [(item.name, item.stored_bytes, item.reason) for item in outside_of(model, (*layers, *others))]
        [('0.bias', 16, 'bias'), ('1.weight', 16, 'norm'), ('1.bias', 16, 'bias')]
    """
    left = tuple(_left(model, rows, kept or {}))
    if checkpoint is None:
        return left
    names: dict[int, list[str]] = {}
    for name, module in quantizable(model).items():
        names.setdefault(id(module.weight), []).append(name)
    planned = [names[id(row.weight)] for row in rows if isinstance(row, LayerRef)]
    reasons = {item.name: item.reason for item in left}
    stacked = any(isinstance(row, ExpertRef) for row in rows)
    absent = "in the checkpoint, not in the model that was measured"
    try:
        return outside_of_folder(checkpoint, planned, reasons=reasons, otherwise=absent, experts=stacked)
    except InvalidInputError:  # no safetensors: the weights came from another kind of file
        return left


def _left(model: nn.Module, rows: Sequence[Row], kept: Mapping[str, str]) -> Iterator[Outside]:
    planned = {id(row.weight) for row in rows if isinstance(row, LayerRef)}
    slices: dict[int, int] = {}  # stack of experts → how many of its slices have a row
    for row in rows:
        if isinstance(row, ExpertRef):
            stack = id(getattr(row.module, row.projection))
            slices[stack] = slices.get(stack, 0) + 1
    seen: set[int] = set(planned)
    for path, module in model.named_modules():
        for name, tensor, is_buffer in _stored(module):
            share = 1.0 if id(tensor) not in slices else 1 - slices[id(tensor)] / tensor.shape[0]
            if id(tensor) in seen or share == 0:
                continue
            seen.add(id(tensor))
            yield Outside(
                name=f"{path}.{name}" if path else name,
                parameters=round(share * tensor.numel()),
                stored_bytes=round(share * tensor.numel() * tensor.element_size()),
                reason="buffer" if is_buffer else _reason(module, name, tensor, kept.get(path)),
            )


def _stored(module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, parameter, False
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            yield name, buffer, True


def _reason(module: nn.Module, name: str, tensor: Tensor, known: str | None) -> str:
    kind = type(module).__name__
    if "bias" in name:
        return "bias"
    if "norm" in kind.lower():
        return "norm"
    if name == "weight" and quantizable(module).get("") is module:
        return known or "left out of the rows that were asked for"
    if tensor.dim() > 2 and (hasattr(module, "num_experts") or "expert" in kind.lower()):
        return EXPERTS
    return f"{kind}: not supported here"
