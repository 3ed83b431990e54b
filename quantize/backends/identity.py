"""Whether a backend is given the model that a plan was made for: its planned weights, as each backend finds them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from allocator import Allocation, ModelIdentity, Profile
from quantize.checkpoints.identity import Found, weights_of_folder
from quantize.formats import StorageFormat
from quantize.identity import identity_of_weights, require_same_model


def require_planned_model(
    backend: str,
    model: Any,  # noqa: ANN401
    plan: object,
    formats: Mapping[str, StorageFormat],
    profile: Profile | None,
) -> bool:
    """Refuse to apply a plan to another model than the one that was profiled.

    Args:
        model: What it starts from.
        plan: The plan; only an allocation says which model it is for.
        formats: Its layers.
        profile: The profile, where it is given; says the same.

    Returns:
        Whether the model was compared; False where neither plan nor profile says which it is, or where the layers have
        other names, which the backend refuses by itself.

    Raises:
        InvalidInputError: It is another model; both are named.
    """
    expected = expected_model(plan, profile)
    weights = _WEIGHTS.get(backend)  # a backend of somebody's own is not compared
    found = None if expected is None or weights is None else weights(model, formats)
    if expected is None or found is None:
        return False
    require_same_model(expected, identity_of_weights(*found))
    return True


def expected_model(plan: object, profile: Profile | None) -> ModelIdentity | None:
    """Find the model that a plan was made for.

    Args:
        profile: The profile, where it is given.

    Returns:
        Its identity, where plan or profile say.
    """
    if isinstance(plan, Allocation) and plan.identity is not None:
        return plan.identity
    return None if profile is None else profile.identity


def _of_module(model: Any, layers: Iterable[str]) -> Found:  # noqa: ANN401
    modules = dict(model.named_modules(remove_duplicate=False))
    weights = [getattr(modules.get(name), "weight", None) for name in layers]
    if any(weight is None for weight in weights):
        return None
    found = (weight.detach().float().cpu().numpy() for weight in weights if weight is not None)
    return type(model).__name__, found


def _of_onnx(model: str | Path, layers: Iterable[str]) -> Found:
    from allocator.contract.errors import require
    from quantize.backends.onnxruntime.apply import weights_of_layers

    found = weights_of_layers(require("onnx", "onnx").load(os.fspath(model)), list(layers))
    return None if found is None else (Path(model).name, found)


_WEIGHTS: dict[str, Callable[[Any, Iterable[str]], Found]] = {
    "torchao": _of_module,
    "onnxruntime": _of_onnx,
    "compressed-tensors": weights_of_folder,
    "gguf": weights_of_folder,
}
