"""``bitalloc demo``: measure, solve over HTTP, quantize for real, measure again, show."""

from __future__ import annotations

from allocator.contract.errors import require


def check_packages() -> None:
    """Refuse to start where a later stage would lack a package.

    Raises:
        MissingPackageError: Says what to install.
    """
    for module in ("torch", "transformers", "torchao", "onnx", "onnxruntime", "onnxscript"):
        require(module, "all")
    require("matplotlib", "plot")
    require("uvicorn", "service")
    from sensitivity.pretrained.text_encoder import minilm_folder

    minilm_folder()
