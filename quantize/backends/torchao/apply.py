"""torchao: weights with real codes, run by PyTorch.

On a CPU torchao keeps every width in one byte per code, so quality is real while stored bytes are taken from the
format. Codes and scales equal those of :mod:`quantize.rounding.nearest` bit for bit. ``int8-dynamic`` also rounds
the inputs of
a layer to 8 bits, token by token. ``mxfp8`` and ``mxfp4`` round them to the same format and are emulated; they need a
model in bfloat16. 8-bit floats are for weights only: rounding inputs to them needs a GPU of compute capability 8.9.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from allocator import Fault, InvalidInputError, Profile
from allocator.contract.errors import pointer, require
from quantize.backends.torchao.weights import MICROSCALED, config, narrow, store
from quantize.formats import StorageFormat, flat_shape
from quantize.plan import faults_at, no_code_for, profile_faults, require_layers
from quantize.rounding.methods import NEAREST, Rounding, moment_faults
from quantize.rounding.moments import Moments

if TYPE_CHECKING:
    from torch import nn

#: End of a class's name → its layers whose weight it reads rather than calling them (transformers 5).
_READERS = {"MambaMixer": ("dt_proj",), "RwkvSelfAttention": ("output",), "RwkvFeedForward": ("value",)}


def apply(
    model: nn.Module,
    plan: Mapping[str, StorageFormat],
    *,
    rounding: Rounding = NEAREST,
    moments: Moments | None = None,
    profile: Profile | None = None,
) -> nn.Module:
    """Quantize a copy of a model with ``FqnToConfig``.

    Args:
        model: Any module; it is not changed.
        plan: Module path to format: symmetric integers and ``fp8-e4m3`` for Linear and Embedding, in groups that divide
            the row; ``int8-dynamic``, ``mxfp8`` and ``mxfp4`` for Linear; fp16, bf16 or fp32 for anything with a
            weight. Modules that share a weight stay tied.
        moments: Module path to second moment of its inputs, for roundings that use them.
        profile: What the plan was made from: then sizes of layers and units are checked against it.

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
    faults = [fault for name, fmt in plan.items() for fault in _faults(name, modules[name], fmt)]
    faults += [
        fault for name, fmt in plan.items() if not fmt.plain for fault in _read_by_parent(name, modules)
    ]
    faults += _split_ties(modules, plan)
    if not faults:
        shapes = {name: tuple(modules[name].weight.shape) for name in plan}
        faults = moment_faults(shapes, plan, rounding, moments) + profile_faults(plan, shapes, profile)
    if faults:
        raise InvalidInputError(*faults)
    changed = copy.deepcopy(model)
    tied = {name: _users(changed, name) for name in plan}
    configs = {name: config(fmt) for name, fmt in plan.items() if not fmt.plain}
    quantization.quantize_(changed, quantization.FqnToConfig(configs), filter_fn=None)
    for name, fmt in plan.items():
        module: Any = changed.get_submodule(name)
        if fmt.plain:
            narrow(module.weight, fmt)
        else:
            weight = modules[name].weight.detach().float().cpu().numpy()
            store(module.weight, weight, fmt, rounding, (moments or {}).get(name))
        for user in tied[name]:
            user.weight = module.weight
    return changed


def _faults(name: str, module: nn.Module, fmt: StorageFormat) -> list[Fault]:
    from torch import Tensor

    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        reason = f"{type(module).__name__} has no weight to quantize"
        return [Fault(pointer(("assignment", name)), reason)]
    plain = weight.detach().float().cpu().numpy()
    return faults_at(name, plain, fmt, _unsupported(module, plain.shape, fmt))


def _read_by_parent(name: str, modules: Mapping[str, nn.Module]) -> list[Fault]:
    parent, _, child = name.rpartition(".")
    kind = type(modules[parent]).__name__
    readers = next((parts for ending, parts in _READERS.items() if kind.endswith(ending)), ())
    if child not in readers:
        return []
    detail = f"{kind} computes with the weight of {child} itself, which torchao's codes do not take; leave it in fp16"
    return [Fault(pointer(("assignment", name)), detail)]


def _unsupported(module: nn.Module, shape: tuple[int, ...], fmt: StorageFormat) -> str | None:
    import torch
    from torch import nn

    if fmt.plain:
        return None
    if (foreign := no_code_for(fmt, "torchao")) is not None:
        return foreign
    known = (nn.Linear,) if fmt.activation_bits < 16 or fmt.name in MICROSCALED else (nn.Linear, nn.Embedding)
    if not isinstance(module, known):
        names = " and ".join(kind.__name__ for kind in known)
        return f"the torchao backend quantizes {names} to {fmt.name}, not {type(module).__name__}"
    if (own := _computes_by_itself(module)) is not None:
        return f"{own} computes with the weight itself, which torchao's codes do not take; leave it in fp16"
    if not fmt.floating and not fmt.symmetric:
        return f"the torchao backend runs symmetric formats; {fmt.name!r} is not"
    if fmt.name in MICROSCALED and module.weight.dtype != torch.bfloat16:
        kind = module.weight.dtype
        return (
            f"torchao computes {fmt.name} in bfloat16 only, and this layer is in {kind}; use model.bfloat16()"
        )
    _, row = flat_shape(shape)
    size = fmt.group_size or row
    if row % size:
        return f"torchao needs groups that divide the row; {size} does not divide {row}"
    if size == 1:
        return "torchao cannot store groups of one weight; use fp16 for this layer"
    return None


def _computes_by_itself(module: nn.Module) -> str | None:
    # A layer that torch calls by its forward works; one whose weight is read by other code (Falcon multiplies with its
    # transpose, nn.MultiheadAttention hands it to a kernel) passes quantize_ and fails in its first pass.
    from torch import nn

    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention"
    if isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward:
        return type(module).__name__
    return None


def _split_ties(modules: Mapping[str, Any], plan: Mapping[str, StorageFormat]) -> list[Fault]:
    first: dict[int, str] = {}
    faults = []
    for name, fmt in plan.items():
        other = first.setdefault(id(getattr(modules[name], "weight", name)), name)
        if plan[other] != fmt:
            detail = (
                f"shares its weight with {other!r}, which has {plan[other].name}; {fmt.name} would split it"
            )
            faults.append(Fault(pointer(("assignment", name)), detail))
    return faults


def _users(model: nn.Module, name: str) -> list[Any]:
    weight = model.get_submodule(name).weight
    # Wrappers that only show the weight of what they wrap (LoRA) follow by themselves.
    return [module for module in model.modules() if module._parameters.get("weight") is weight]
