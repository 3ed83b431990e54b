"""Backends by name. To add one: write ``quantize/backends/<name>.py`` with ``apply`` and list it here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from allocator import Allocation, Fault, InvalidInputError
from allocator.contract.errors import unknown
from quantize.plan import formats_of

BACKENDS = {
    "torchao": "quantize.backends.torchao.apply",
    "onnxruntime": "quantize.backends.onnxruntime.apply",
    "compressed-tensors": "quantize.backends.compressed_tensors.apply",
    "gguf": "quantize.backends.gguf.apply",
}


def apply(model: Any, plan: Allocation | Mapping[str, str], backend: str, **options: Any) -> Any:  # noqa: ANN401
    """Quantize a model as a plan says.

    Args:
        model: What the backend starts from: a ``torch.nn.Module`` (torchao), the path of an exported ONNX file
            (onnxruntime), or a folder with a checkpoint (compressed-tensors, gguf). It is not changed.
        plan: An allocation, or layer name to format name.
        backend: A name in :data:`BACKENDS`.
        **options: Options of the backend's own ``apply``; every backend takes ``rounding`` and ``moments``
            (:class:`~quantize.rounding.methods.Rounding`), and ``profile``, against which sizes and units are then
            checked.

    Returns:
        What the backend makes: a module, or the path of a file or folder.

    Raises:
        InvalidInputError: The backend, a layer or a format is unknown, or the backend cannot run a format.
        MissingPackageError: The backend's package is not installed.
    """
    if backend not in BACKENDS:
        raise InvalidInputError(Fault("/backend", unknown(backend, BACKENDS, "backend")))
    return import_module(BACKENDS[backend]).apply(model, formats_of(plan), **options)
