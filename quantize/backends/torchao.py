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
from quantize.methods import NEAREST, Rounding, moment_faults, rounded
from quantize.moments import Moments
from quantize.plan import faults_at, require_layers
from quantize.rounding import Quantized

if TYPE_CHECKING:
    from torch import nn


def apply(
    model: nn.Module,
    plan: Mapping[str, Format],
    *,
    rounding: Rounding = NEAREST,
    moments: Moments | None = None,
) -> nn.Module:
    """Quantize a copy of a model with ``FqnToConfig``.

    Args:
        model: Any module; it is not changed.
        plan: Module path to format: symmetric integers for Linear and Embedding, in groups that divide the row; fp16,
            bf16 or fp32 for anything with a weight. Modules that share a weight stay tied.
        rounding: How codes are chosen.
        moments: Module path to second moment of its inputs, for roundings that use them.

    Returns:
        A quantized copy, ready to run.

    Raises:
        InvalidInputError: A layer is not in the model, its moment does not fit, or torchao cannot run its format;
            nothing was done.
        MissingPackageError: torchao is not installed.
    """
    quantization = require("torchao.quantization", "torchao")
    modules = dict(model.named_modules())
    require_layers(plan, modules)
    faults = [fault for name, target in plan.items() for fault in _faults(name, modules[name], target)]
    faults += _split_ties(modules, plan)
    if not faults:
        shapes = {name: tuple(modules[name].weight.shape) for name in plan}
        faults = moment_faults(shapes, plan, rounding, moments)
    if faults:
        raise InvalidInputError(*faults)
    changed = copy.deepcopy(model)
    tied = {name: _users(changed, name) for name in plan}
    configs = {name: _config(target) for name, target in plan.items() if not target.floating}
    quantization.quantize_(changed, quantization.FqnToConfig(configs), filter_fn=None)
    for name, target in plan.items():
        module = changed.get_submodule(name)
        _narrow(module, target)
        if not target.floating and rounding.method != "nearest":
            weight = modules[name].weight.detach().float().cpu().numpy()
            _recode(module.weight, rounded(weight, target, rounding, (moments or {}).get(name)))
        for user in tied[name]:
            user.weight = module.weight
    return changed


def _faults(name: str, module: nn.Module, target: Format) -> list[Fault]:
    from torch import Tensor

    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        reason = f"{type(module).__name__} has no weight to quantize"
        return [Fault(pointer(("assignment", name)), reason)]
    plain = weight.detach().float().cpu().numpy()
    return faults_at(name, plain, target, _unsupported(module, plain.shape, target))


def _unsupported(module: nn.Module, shape: tuple[int, ...], target: Format) -> str | None:
    from torch import nn

    if target.floating:
        return None
    if not isinstance(module, (nn.Linear, nn.Embedding)):
        return f"the torchao backend quantizes Linear and Embedding to integers, not {type(module).__name__}"
    if not target.symmetric:
        return f"the torchao backend runs symmetric formats; {target.name!r} is not"
    _, row = flat_shape(shape)
    size = target.group_size or row
    if row % size:
        return f"torchao needs groups that divide the row; {size} does not divide {row}"
    if size == 1:
        return "torchao cannot store groups of one weight; use fp16 for this layer"
    return None


def _split_ties(modules: Mapping[str, Any], plan: Mapping[str, Format]) -> list[Fault]:
    first: dict[int, str] = {}
    faults = []
    for name, target in plan.items():
        other = first.setdefault(id(getattr(modules[name], "weight", name)), name)
        if plan[other] != target:
            detail = f"shares its weight with {other!r}, which has {plan[other].name}; {target.name} would split it"
            faults.append(Fault(pointer(("assignment", name)), detail))
    return faults


def _users(model: nn.Module, name: str) -> list[Any]:
    weight = model.get_submodule(name).weight
    return [module for module in model.modules() if getattr(module, "weight", None) is weight]


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


def _recode(weight: Any, made: Quantized) -> None:  # noqa: ANN401
    import torch

    weight.qdata = (
        torch.from_numpy(made.codes.astype("int8")).reshape(weight.qdata.shape).to(weight.qdata.device)
    )
    weight.scale = torch.from_numpy(made.scales).reshape(weight.scale.shape).to(weight.scale.device)
