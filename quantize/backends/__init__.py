"""Backends by name. To add one: write ``quantize/backends/<name>.py`` with ``apply`` and list it here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allocator import Allocation as Allocation
from allocator.contract.allocation import PlanSource
from allocator.contract.registry import Registry
from quantize.backends.identity import require_planned_model
from quantize.plan import formats_of

BACKENDS = Registry[Callable[..., Any]](
    "backend",
    {
        "torchao": "quantize.backends.torchao.apply",
        "onnxruntime": "quantize.backends.onnxruntime.apply",
        "compressed-tensors": "quantize.backends.compressed_tensors.apply",
        "gguf": "quantize.backends.gguf.apply",
    },
    attribute="apply",
)


def apply(model: Any, plan: PlanSource, backend: str, **options: Any) -> Any:  # noqa: ANN401
    """Quantize a model as a plan says.

    Args:
        model: What the backend starts from: a ``torch.nn.Module`` (torchao), the path of an exported ONNX file
            (onnxruntime), or a folder with a checkpoint (compressed-tensors, gguf). It is not changed.
        plan: An allocation, layer name to format name, or the path of a JSON file of either. An allocation that says
            which model it was made for is applied to no other; its ``assignment`` alone is.
        backend: A name in :data:`BACKENDS`.
        **options: Options of the backend's own ``apply``; every backend takes ``rounding`` and ``moments``
            (:class:`~quantize.rounding.methods.Rounding`), and ``profile``, against which sizes and units are then
            checked.

    Returns:
        What the backend makes: a module, or the path of a file or folder.

    Raises:
        InvalidInputError: The backend, a layer or a format is unknown, the backend cannot run a format, or the model is
            another one than was profiled.
        MissingPackageError: The backend's package is not installed.
    """
    run = BACKENDS.find(backend)
    formats = formats_of(plan)
    require_planned_model(backend, model, plan, formats, options.get("profile"))
    return run(model, formats, **options)
