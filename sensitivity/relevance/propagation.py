"""One backward pass of relevance through a model, without touching the model.

The functions that a model calls are seen by a torch function mode, which lets each go by its rule; a layer is known by
its weight, so that it does not matter which module, or which fused function, uses it. What a model consists of beyond
that makes no difference: convolutions, encoders and decoders take the same path.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import KeyPath, keystr, tree_map, tree_map_with_path

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from sensitivity.models.layers import LayerRef
from sensitivity.relevance.rules import Rules, carries, operands

#: Functions that use the weight of a layer.
WEIGHTED = ("linear", "conv1d", "conv2d", "embedding")


def weight_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    """Find the weight in a call of a function.

    Returns:
        The weight; None where the function is none of :data:`WEIGHTED`.
    """
    if name not in WEIGHTED:
        return None
    return args[1] if len(args) > 1 else kwargs.get("weight")


@dataclass(frozen=True, eq=False)
class Trace:
    """What one forward pass left for the way back.

    Attributes:
        outputs: Layer index and output, for every use of a layer's weight.
        sources: What relevance is traced back to: floating-point inputs of the model, apart from masks, and outputs of
            embeddings.
        results: What the model returned.
    """

    outputs: list[tuple[int, Tensor]] = field(default_factory=list)
    sources: list[Tensor] = field(default_factory=list)
    results: list[Tensor] = field(default_factory=list)

    def source(self, value: Tensor) -> Tensor:
        """Start tracing at a value.

        Args:
            value: A floating-point tensor.

        Returns:
            The same numbers, as a tensor that may be changed in place.
        """
        leaf = value.detach().clone().requires_grad_()
        self.sources.append(leaf)
        return leaf.clone()


class Propagation(TorchFunctionMode):
    """Lets functions go by their rules while the model runs.

    Args:
        layers: The layers to look at.
    """

    def __init__(self, layers: tuple[LayerRef, ...], rules: Rules) -> None:
        super().__init__()
        self.trace = Trace()
        self._layers = layers
        self._index = {id(layer.weight): index for index, layer in enumerate(layers)}
        self._rules = rules
        self._running = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        del types
        named = kwargs or {}
        if not self._running:
            return func(*args, **named)
        name = getattr(func, "__name__", "")
        layer = self._index.get(id(weight_of(name, args, named)))
        result = self._called(name, func, args, named)
        if layer is not None:
            return self._seen(layer, result)
        return self.trace.source(result) if name == "embedding" and not carries(result) else result

    def _called(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401
        if not any(map(carries, operands(args, kwargs))):
            return function(*args, **kwargs)
        if name in self._rules.rewrites:
            with self:
                return self._rules.rewrites[name](*args, **kwargs)
        if name in self._rules.by_function:
            return self._rules.by_function[name](function, args, kwargs, self._rules.epsilon)
        return function(*args, **kwargs)

    def _seen(self, layer: int, result: Tensor) -> Tensor:
        if not torch.isfinite(result).all():
            detail = "its output is NaN or infinite on a calibration batch"
            raise InvalidInputError(Fault(pointer(("layers", self._layers[layer].name)), detail))
        value = result if carries(result) else self.trace.source(result)
        if carries(value):  # not where gradients are off, as for a teacher
            self.trace.outputs.append((layer, value))
        return value.clone()  # an activation that works in place must not reach what is kept

    def enter_model(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Start at the inputs of the model; a forward pre-hook.

        Returns:
            The arguments, traced.
        """
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        bound.arguments = tree_map_with_path(self._entering, dict(bound.arguments))
        self._running += 1
        return bound.args, bound.kwargs

    def leave_model(self, module: nn.Module, args: Any, result: Any) -> Any:  # noqa: ANN401
        """End at what the model returns; a forward hook.

        Returns:
            The same, of which each tensor can be looked at by itself.
        """
        del module, args
        self._running -= 1
        return tree_map(self._leaving, result)

    def _entering(self, path: KeyPath, value: object) -> object:
        # A mask says where to look; it is not looked at.
        if not isinstance(value, Tensor) or not value.is_floating_point() or "mask" in keystr(path):
            return value
        return value if carries(value) else self.trace.source(value)

    def _leaving(self, value: object) -> object:
        if not isinstance(value, Tensor) or not carries(value):
            return value
        branch = value.clone()
        self.trace.results.append(branch)
        return branch.clone()


@contextmanager
def propagating(model: nn.Module, layers: tuple[LayerRef, ...], rules: Rules) -> Iterator[Trace]:
    """Let relevance go back through a model by rules instead of gradients.

    Args:
        model: The model; its parameters must not require gradients.
        layers: The layers to look at.

    Yields:
        What is recorded; filled by calls of the model.
    """
    mode = Propagation(layers, rules)
    hooks = [model.register_forward_pre_hook(mode.enter_model, with_kwargs=True)]
    try:
        hooks.append(model.register_forward_hook(mode.leave_model))
        with mode:
            yield mode.trace
    finally:
        for hook in hooks:
            hook.remove()
