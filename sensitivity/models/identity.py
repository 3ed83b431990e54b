"""The identity of a module, by the weights that a profile plans."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from allocator import Fault, InvalidInputError, ModelIdentity, Profile
from allocator.contract.errors import pointer, unknown
from quantize.identity import identity_of_weights, require_same_model
from sensitivity.pretrained.text_encoder import TextEncoder


def identity_of_module(model: nn.Module, weights: Sequence[Tensor]) -> ModelIdentity | None:
    """Return the digests of a module's planned weights; None where there are none, or not in memory (meta device)."""
    if not weights or any(weight.is_meta for weight in weights):
        return None
    return identity_of_weights(
        architecture(model), (weight.detach().float().cpu().numpy() for weight in weights)
    )


def architecture(model: nn.Module) -> str:
    """Return the name of the class of a model, that of its backbone for a sentence encoder."""
    return type(model.backbone if isinstance(model, TextEncoder) else model).__name__


def require_profiled(model: nn.Module, profile: Profile) -> bool:
    """Refuse a module that is not the one that a profile was measured on.

    Returns:
        Whether weights were compared; False where the profile does not say which model it is of, so that only names
        and sizes were.

    Raises:
        InvalidInputError: It is another model: names, sizes or weights differ.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    weights, faults = [], []
    for row in profile.layers:
        weight = getattr(modules.get(row.name), "weight", None)
        if row.kind != "weight" or _expert(row.name, modules):
            continue
        where = pointer(("layers", row.name))
        if not isinstance(weight, Tensor):
            faults.append(Fault(where, f"{unknown(row.name, modules, 'layer')}: this is another model"))
        elif row.parameters not in {None, weight.numel()}:
            detail = (
                f"the profile has {row.parameters} weights, the model {weight.numel()}: it is another model"
            )
            faults.append(Fault(where, detail))
        else:
            weights.append(weight)
    found = None if profile.identity is None else identity_of_module(model, weights)
    if profile.identity is not None and found is not None:
        require_same_model(profile.identity, found)
    if faults:
        raise InvalidInputError(*faults)
    return found is not None


def _expert(name: str, modules: dict[str, nn.Module]) -> bool:
    # Rows of stacked experts: path of the stack, number, projection.
    parts = name.rsplit(".", 2)
    return len(parts) == 3 and parts[1].isdigit() and parts[0] in modules and name not in modules
