"""Weights as torchao stores them, filled with the codes of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from quantize.formats import DYNAMIC, StorageFormat
from quantize.plain_floats import PLAIN_FLOATS
from quantize.rounding.codes import is_sign
from quantize.rounding.methods import Rounding, rounded
from quantize.rounding.nearest import Float32Array
from quantize.rounding.quantized import Quantized
from quantize.rounding.small_floats import bit_patterns, scaled

if TYPE_CHECKING:
    from torch import Tensor

MICROSCALED = ("mxfp8", "mxfp4")


def config(fmt: StorageFormat) -> object:
    """What ``quantize_`` is told for a format.

    Args:
        fmt: Any format but the plain ones.

    Returns:
        A configuration of torchao.
    """
    import torch
    from torchao import quantization
    from torchao.quantization.granularity import PerAxis, PerGroup

    if fmt.name == DYNAMIC:
        return quantization.Int8DynamicActivationInt8WeightConfig()
    if fmt.name == "fp8-e4m3":
        return quantization.Float8WeightOnlyConfig()
    if fmt.name in MICROSCALED:
        return _microscaled(fmt)
    return quantization.IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{fmt.bits}"),
        granularity=PerGroup(fmt.group_size) if fmt.group_size else PerAxis(0),
    )


def _microscaled(fmt: StorageFormat) -> object:
    import torch
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.inference_workflow import MXDynamicActivationMXWeightConfig
    from torchao.quantization.quantize_.common import KernelPreference

    kind = torch.float8_e4m3fn if fmt.bits == 8 else torch.float4_e2m1fn_x2
    return MXDynamicActivationMXWeightConfig(
        activation_dtype=kind,
        weight_dtype=kind,
        kernel_preference=KernelPreference.EMULATED,
        scaling_mode=ScaleCalculationMode.FLOOR,  # the exponent of the specification
    )


def narrow(weight: Tensor, fmt: StorageFormat) -> None:
    """Give a weight the numbers of a narrow float; the arithmetic stays in the model's own precision.

    Args:
        weight: Changed in place.
        fmt: A plain format.
    """
    import torch

    kind = getattr(torch, PLAIN_FLOATS[fmt.name].torch_name)
    with torch.no_grad():
        weight.copy_(weight.to(kind))


def store(
    weight: Any,  # noqa: ANN401 - one of torchao's tensors
    original: Float32Array,
    fmt: StorageFormat,
    rounding: Rounding,
    moment: ArrayLike | None,
) -> None:
    """Fill a quantized weight with the codes of the reference.

    Scales are kept in half precision, as they were chosen. One bit is stored as torchao has it, codes of −1 and 0, with
    a zero point of −½ and a step of twice the scale, so that it stands for −s and +s.

    Args:
        weight: Changed in place.
        original: The weight before.
        moment: Second moment of the inputs, if any.
    """
    import torch

    if fmt.name in MICROSCALED:
        return  # torchao's own are the reference's; its scales lie in an order of their own
    if fmt.floating:
        _store_floats(weight, scaled(original, fmt))
        return
    made = rounded(original, fmt, rounding, moment)
    if is_sign(fmt):
        weight.qdata = _like(weight.qdata, np.minimum(made.codes, 0).astype(np.int8))
        weight.scale = _like(weight.scale, 2 * made.scales)
        weight.zero_point = torch.full_like(weight.scale, -0.5)
        return
    kind = torch.float32 if fmt.name == DYNAMIC else torch.float16  # dynamic kernels want it wide
    weight.qdata = _like(weight.qdata, made.codes.astype(np.int8))
    weight.scale = _like(weight.scale, made.scales).to(kind)


def _store_floats(weight: Any, made: Quantized) -> None:  # noqa: ANN401
    import torch

    weight.qdata = _like(weight.qdata, bit_patterns(made)).view(torch.float8_e4m3fn)
    weight.scale = _like(weight.scale, made.scales).to(weight.scale.dtype)


def _like(tensor: Tensor, array: Any) -> Tensor:  # noqa: ANN401
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).reshape(tensor.shape).to(tensor.device)
