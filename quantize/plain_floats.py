"""Plain floats: weights as they are, in half, bfloat16 or single precision. The one table of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class PlainFloat:
    """A floating-point type that weights are stored in without scales.

    Attributes:
        bits: Bits of a number.
        stored_as: Its name in safetensors and GGUF.
        dtype: Its type in numpy.
        torch_name: Its name in torch.
    """

    bits: int
    stored_as: str
    dtype: Any
    torch_name: str


#: Name of the format → its type.
PLAIN_FLOATS: Mapping[str, PlainFloat] = {
    "fp16": PlainFloat(16, "F16", np.float16, "float16"),
    "bf16": PlainFloat(16, "BF16", ml_dtypes.bfloat16, "bfloat16"),
    "fp32": PlainFloat(32, "F32", np.float32, "float32"),
}
