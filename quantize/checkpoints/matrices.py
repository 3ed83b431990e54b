"""Matrices of a checkpoint by layer: also experts that are stored as one parameter, which is no layer's ``weight``."""

from __future__ import annotations

from pathlib import Path

from quantize.checkpoints.safetensors import Stored, stored_tensors


def stored_matrices(folder: Path) -> dict[str, tuple[int, ...]]:
    """Find everything in a checkpoint that a tool may quantize.

    Args:
        folder: Folder with ``*.safetensors``, or one such file.

    Returns:
        Layer → shape: weights of two and more dimensions, and other tensors of three (``experts.gate_up_proj``).
    """
    return {layer: tensor.shape for layer, tensor in matrix_tensors(folder).items()}


def matrix_tensors(folder: Path) -> dict[str, Stored]:
    """Find where everything is that a tool may quantize.

    Args:
        folder: Folder with ``*.safetensors``, or one such file.

    Returns:
        Layer → tensor, of the same layers as :func:`stored_matrices`.
    """
    return {
        name.removesuffix(".weight"): tensor
        for name, tensor in stored_tensors(folder).items()
        if (name.endswith(".weight") and len(tensor.shape) > 1)
        or (len(tensor.shape) == 3 and not name.endswith(("bias", "_scales", "_blocks", "scale", "scales")))
    }
