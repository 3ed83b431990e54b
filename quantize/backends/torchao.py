"""torchao: integer weights with real codes, run by PyTorch.

On a CPU torchao keeps every width in one byte per code, so quality is real while stored bytes are taken from the
format. Codes and scales equal those of :mod:`quantize.rounding` bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from allocator import Fault, InvalidInputError
from allocator.errors import pointer, require
from quantize.formats import Format, flat_shape
from quantize.plan import require_layers

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, plan: Mapping[str, Format]) -> nn.Module:
    """Quantize a copy of a model with ``FqnToConfig``.

    Args:
        model: Any module; it is not changed.
        plan: Module path to format: symmetric integers whose group divides the row, fp16, bf16 or fp32.

    Returns:
        A quantized copy, ready to run.

    Raises:
        InvalidInputError: A layer is not in the model, or torchao cannot run its format; nothing was done.
        MissingPackageError: torchao is not installed.
    """
    quantization = require("torchao.quantization", "torchao")
    modules = dict(model.named_modules())
    require_layers(plan, modules)
    faults = [
        Fault(pointer(("assignment", name)), reason)
        for name, target in plan.items()
        if (reason := _refusal(modules[name], target))
    ]
    if faults:
        raise InvalidInputError(*faults)
    changed = copy.deepcopy(model)
    configs = {name: _config(target) for name, target in plan.items() if not target.floating}
    quantization.quantize_(changed, quantization.FqnToConfig(configs), filter_fn=None)
    for name, target in plan.items():
        _narrow(changed.get_submodule(name), target)
    return changed


def _refusal(module: nn.Module, target: Format) -> str | None:
    weight = getattr(module, "weight", None)
    if weight is None:
        return f"{type(module).__name__} has no weight to quantize"
    if target.floating:
        return None
    if not target.symmetric:
        return f"the torchao backend runs symmetric formats; {target.name!r} is not"
    _, row = flat_shape(weight.shape)
    if row % (target.group_size or row):
        return f"torchao needs groups that divide the row; {target.group_size} does not divide {row}"
    return None


def _config(target: Format) -> object:
    import torch
    from torchao.quantization import IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerAxis, PerGroup

    return IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{target.bits}"),
        granularity=PerGroup(target.group_size) if target.group_size else PerAxis(0),
    )


def _narrow(module: Any, target: Format) -> None:  # noqa: ANN401
    import torch

    weight = module.weight
    if not target.floating:
        # torchao's own `scale_dtype=float16` also inverts the scale in half precision, which overflows to
        # infinity for small groups and turns groups of zeros into NaN. Only what is stored is narrowed here.
        weight.scale = weight.scale.to(torch.float16)
        return
    # The numbers become those of the narrow format; the arithmetic stays in the model's own precision.
    narrow = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[target.name]
    with torch.no_grad():
        weight.copy_(weight.to(narrow))
