"""Which module is the first to give NaN or infinity."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def where_not_finite(model: nn.Module, run: Callable[[], object]) -> str:
    """Run a model again, and say where its numbers stop being finite.

    Returns:
        The first module to finish with NaN or infinity in what it gives, in words; modules inside others finish first.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
        >>> _ = nn.init.constant_(model[0].weight, torch.inf)
        >>> where_not_finite(model, lambda: model(torch.ones(1, 1)))
        "'0' (Linear) is the first to give such numbers"
    """
    found: list[str] = []
    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():

            def look(module: nn.Module, _: object, output: object, name: str = name) -> None:
                if not found and not all(map(_finite, tree_leaves(output))):
                    shown = (
                        f"{name!r} ({type(module).__name__})"
                        if name
                        else f"the {type(module).__name__} itself"
                    )
                    found.append(f"{shown} is the first to give such numbers")

            hooks.callback(module.register_forward_hook(look).remove)
        run()
    return found[0] if found else "all modules give finite numbers; it is what is made of them"


def _finite(value: object) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return True
    return bool(torch.isfinite(value).all())
