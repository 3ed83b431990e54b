"""A slow reader of quantized ONNX files, written from ONNX Runtime's operator descriptions and from nothing else.

MatMulNBits: ``B`` is (N, blocks, bytes per block), codes little end first, zero point 2^(bits - 1); ``scales`` is
(N, blocks). GatherBlockQuantized: ``data`` is (rows, bytes per row), likewise; ``scales`` is (rows, blocks).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass(frozen=True, eq=False)
class Stored:
    """Signed codes (rows, groups, size) and scales (rows, groups)."""

    codes: np.ndarray
    scales: np.ndarray

    def dequantize(self) -> np.ndarray:
        values = self.codes.astype(np.float32) * self.scales.astype(np.float32)[..., None]
        return values.reshape(len(values), -1)


def initializers(graph: Any) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in graph.graph.initializer}


def quantized_nodes(path: Path) -> list[tuple[Any, Stored]]:
    """Every node with packed weights, in the order of the graph."""
    graph = onnx.load(path)
    arrays = initializers(graph)
    widened = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Cast"}
    found = []
    for node in graph.graph.node:
        if node.op_type not in {"MatMulNBits", "GatherBlockQuantized"}:
            continue
        gathers = node.op_type == "GatherBlockQuantized"
        packed, scales = arrays[node.input[0 if gathers else 1]], arrays[widened[node.input[2]]]
        options = {item.name: item.i for item in node.attribute}
        bits, size = options["bits"], options["block_size"]
        codes = _unpacked(packed.reshape(scales.size, -1), bits, size).reshape(*scales.shape, size)
        found.append((node, Stored(codes, scales)))
    return found


def _unpacked(blocks: np.ndarray, bits: int, size: int) -> np.ndarray:
    codes = []
    for block in blocks.tolist():
        number = int.from_bytes(bytes(block), "little")
        assert number < 2 ** (bits * size)
        codes.append([(number >> (bits * k)) % 2**bits - 2 ** (bits - 1) for k in range(size)])
    return np.array(codes)


def plain_weight(path: Path, node_name: str) -> np.ndarray:
    """The weight of a node that is stored as numbers, widened where the file widens it; rows are outputs."""
    graph = onnx.load(path)
    arrays = initializers(graph)
    (node,) = (item for item in graph.graph.node if item.name == node_name)
    name = node.input[0 if node.op_type == "Gather" else 1]
    widened = {item.output[0]: item.input[0] for item in graph.graph.node if item.op_type == "Cast"}
    weight = arrays[widened.get(name, name)].astype(np.float32)
    return weight.T if node.op_type == "MatMul" else weight


def payload(path: Path) -> int:
    """Bytes of the numbers themselves."""
    return sum(array.nbytes for array in initializers(onnx.load(path)).values())


def skeleton(path: Path) -> int:
    """Bytes of the file when all numbers are taken out."""
    graph = onnx.load(path)
    for item in graph.graph.initializer:
        item.ClearField("raw_data")
    return int(graph.ByteSize())
