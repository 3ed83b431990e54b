"""Small changes to an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def attribute(node: Any, name: str, default: float) -> float:  # noqa: ANN401
    """Read a number off a node.

    Args:
        default: What it is where the node does not say.

    Returns:
        The number.
    """
    from onnx import helper

    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def add_initializer(graph: Any, array: NDArray[Any], name: str) -> bool:  # noqa: ANN401
    """Store numbers, once per name.

    Args:
        graph: Changed in place.
        name: Their name.

    Returns:
        Whether they were not there yet.
    """
    from onnx import numpy_helper

    if any(item.name == name for item in graph.initializer):
        return False
    graph.initializer.append(numpy_helper.from_array(array, name))
    return True


def add_widened(graph: Any, half: NDArray[np.float16], stored: str, widened: str) -> None:  # noqa: ANN401
    """Store numbers in half precision, and widen them as the file is loaded.

    Args:
        graph: Changed in place.
        stored: Their name.
        widened: Name of the same in single precision.
    """
    from onnx import TensorProto, helper

    if add_initializer(graph, half, stored):
        cast = helper.make_node("Cast", [stored], [widened], name=f"{widened}.cast", to=TensorProto.FLOAT)
        graph.node.insert(0, cast)


def drop_unused(graph: Any) -> None:  # noqa: ANN401
    """Drop stored numbers that no node reads.

    Args:
        graph: Changed in place.
    """
    read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    for tensor in [item for item in graph.initializer if item.name not in read]:
        graph.initializer.remove(tensor)
