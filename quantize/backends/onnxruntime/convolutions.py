r"""Convolutions in 8 bits, as ONNX Runtime recognises them: quantize and dequantize (QDQ) around a ``Conv``.

Weights are the signed codes of the reference, one half-precision scale per output. Inputs and outputs, where their
spans are known, become unsigned codes with one scale and one zero point,

.. math:: s = \frac{\max(high, 0) - \min(low, 0)}{255}, \qquad z = \operatorname{round}(-\min(low, 0) / s),

and ONNX Runtime turns the whole into one ``QLinearConv``. There weights are unsigned too, with the zero point 128: on
processors with AVX2 and without VNNI the product of unsigned inputs and signed weights is added up in 16 bits, which
saturates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quantize.backends.onnxruntime.graph import add_initializer, add_widened
from quantize.rounding.quantized import Quantized


@dataclass(frozen=True)
class Span:
    """The least and the greatest number that went into a layer, and that came out.

    Attributes:
        inputs: Both ends.
        outputs: Both ends.
    """

    inputs: tuple[float, float]
    outputs: tuple[float, float]


def convolution(graph: Any, node: Any, rounded: Quantized, span: Span | None) -> list[Any]:  # noqa: ANN401
    """Make the nodes that take the place of a convolution.

    Args:
        graph: Gets what they read.
        rounded: Its weight, one scale per output.
        span: What it computes with; None leaves its inputs and outputs alone.

    Returns:
        Nodes in their order.
    """
    from onnx import NodeProto, helper

    stem = f"{node.input[1]}.int8"
    codes, scales, restored = f"{stem}.codes", f"{stem}.scales", f"{stem}.restored"
    signed = rounded.codes.astype(np.int8).reshape(rounded.shape)
    reads = [codes, scales]
    if span is not None:
        zeros = f"{stem}.zeros"
        add_initializer(graph, np.full(len(signed), 128, dtype=np.uint8), zeros)
        reads.append(zeros)
    add_initializer(
        graph, signed if span is None else (signed.astype(np.int16) + 128).astype(np.uint8), codes
    )
    add_widened(graph, rounded.scales[:, 0], f"{stem}.half", scales)
    made = NodeProto()
    made.CopyFrom(node)
    made.input[1] = f"{restored}.{node.name}"
    nodes = [
        helper.make_node("DequantizeLinear", reads, [made.input[1]], f"{node.name}.weight", axis=0),
        made,
    ]
    if span is None:
        return nodes
    made.input[0] = f"{node.name}.rounded_input"
    made.output[0] = f"{node.name}.output"
    before = _rounding(graph, node.input[0], made.input[0], span.inputs, f"{node.name}.in")
    after = _rounding(graph, made.output[0], node.output[0], span.outputs, f"{node.name}.out")
    return [*before, *nodes, *after]


def _rounding(graph: Any, source: str, result: str, span: tuple[float, float], stem: str) -> list[Any]:  # noqa: ANN401
    from onnx import helper

    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = np.maximum(np.float32(high - low) / np.float32(255), np.finfo(np.float32).smallest_normal)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    names = [f"{stem}.scale", f"{stem}.zero"]
    for name, value in zip(names, (scale, zero), strict=True):
        add_initializer(graph, np.asarray(value), name)
    return [
        helper.make_node("QuantizeLinear", [source, *names], [f"{stem}.codes"], f"{stem}.quantize"),
        helper.make_node("DequantizeLinear", [f"{stem}.codes", *names], [result], f"{stem}.dequantize"),
    ]
