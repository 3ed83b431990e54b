r"""Experts of a mixture made visible: one Linear each, where transformers keeps them in 3-D parameters.

Since its fifth version, transformers stores the experts of a block as ``gate_up_proj`` (E, 2·I, H) and ``down_proj``
(E, H, I), which no tool that looks for Linear layers finds. Separate experts compute the same,

.. math:: y = \sum_{e \in \text{top } k} w_e \; D_e \, (\operatorname{act}(G_e x) \odot U_e x)

and are found as ``….experts.<e>.gate_proj``, ``.up_proj`` and ``.down_proj``, the names of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer

#: The one way of storing experts that is understood here, in the words of transformers' integrations/moe.py.
_LAYOUT = {
    "has_gate": True,
    "is_concatenated": True,
    "is_transposed": False,
    "has_bias": False,
    "has_post_expert_norm": False,
}


class Expert(nn.Module):
    """One expert: a gated feed-forward network.

    Args:
        gate_up: (2·I, H) weights of gate and up, used in place.
        down: (H, I) weights, used in place.
        activation: Applied to the gate.
    """

    def __init__(self, gate_up: Tensor, down: Tensor, activation: nn.Module) -> None:
        super().__init__()
        gate, up = gate_up.chunk(2)
        self.gate_proj = _linear(gate)
        self.up_proj = _linear(up)
        self.down_proj = _linear(down)
        self.activation = activation

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute the expert.

        Args:
            hidden: (T, H).

        Returns:
            (T, H).
        """
        made: Tensor = self.down_proj(self.activation(self.gate_proj(hidden)) * self.up_proj(hidden))
        return made


class SeparateExperts(nn.Module):
    """The experts of a block, one module each.

    Not a ``ModuleList``: those are for blocks that run one after the other.

    Args:
        fused: What transformers keeps them in; its memory is used in place.
    """

    def __init__(self, fused: nn.Module) -> None:
        super().__init__()
        gate_up, down, activation = _parts(fused)
        self.num_experts = len(gate_up)
        for index, weights in enumerate(zip(gate_up, down, strict=True)):
            self.add_module(str(index), Expert(*weights, activation))

    def forward(self, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Send every token through its experts.

        Args:
            hidden: (T, H).
            chosen: (T, K) experts of each token.
            weights: (T, K) what they count.

        Returns:
            (T, H).
        """
        total = torch.zeros_like(hidden)
        for index, expert in enumerate(self.children()):
            tokens, ranks = torch.where(chosen == index)
            if tokens.numel():
                part = expert(hidden[tokens]) * weights[tokens, ranks, None]
                total = total.index_add(0, tokens, part.to(total.dtype))
        return total


def separate_experts(model: nn.Module) -> int:
    """Replace all fused experts of a model, in place.

    The outputs stay the same up to the rounding of sums; the weights stay the same bit for bit.

    Args:
        model: A mixture-of-experts model of transformers (Mixtral, Qwen-MoE, OLMoE, …).

    Returns:
        Number of blocks whose experts were separated; 0 where there are none.

    Raises:
        InvalidInputError: Experts are stored in a way that is not understood; nothing is changed.
    """
    fused = _understood(model)
    for name, module in fused.items():
        separate = SeparateExperts(module).train(module.training)
        for linear in separate.modules():
            if isinstance(linear, nn.Linear):  # files of tensors refuse several on one memory
                linear.weight = nn.Parameter(linear.weight.detach().clone())
        _put(model, name, separate)
    return len(fused)


@contextmanager
def split_experts(model: nn.Module) -> Iterator[None]:
    """Let a model compute with separate experts for a while, on the memory of the fused ones.

    Profile inside; the names of the rows are those of the separate layers.

    Args:
        model: A mixture-of-experts model of transformers.

    Yields:
        Nothing; the fused modules are back at the end.

    Raises:
        InvalidInputError: The model has no fused experts, or they are stored in a way that is not understood.
    """
    fused = _understood(model)
    if not fused:
        detail = f"{type(model).__name__} has no experts in three-dimensional parameters; nothing to split"
        raise InvalidInputError(Fault("/model", detail))
    try:
        for name, module in fused.items():
            _put(model, name, SeparateExperts(module).train(module.training))
        yield
    finally:
        for name, module in fused.items():
            _put(model, name, module)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _understood(model: nn.Module) -> dict[str, nn.Module]:
    fused = dict(_fused(model))
    faults = [
        Fault(pointer(("model", name)), detail)
        for name, module in fused.items()
        for detail in _faults(name, module)
    ]
    if faults:
        raise InvalidInputError(*faults)
    return fused


def _fused(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if any(parameter.dim() == 3 for parameter in module.parameters(recurse=False)):
            yield name, module


def _faults(name: str, module: nn.Module) -> Iterator[str]:
    kind = type(module).__name__
    if not name:
        yield f"{kind} is the model itself; give the model that holds it"
    parameters = dict(module.named_parameters(recurse=False))
    if set(parameters) != {"gate_up_proj", "down_proj"} or not isinstance(
        getattr(module, "act_fn", None), nn.Module
    ):
        yield (
            f"{kind} holds 3-D parameters ({', '.join(parameters)}), but not the gate_up_proj, down_proj and act_fn of "
            "gated experts"
        )
        return
    for flag, expected in _LAYOUT.items():
        came = getattr(module, flag, expected)
        if came != expected:
            yield f"{kind} stores its experts with {flag}={came}; expected {expected}"


def _parts(fused: Any) -> tuple[Tensor, Tensor, nn.Module]:  # noqa: ANN401
    return fused.gate_up_proj, fused.down_proj, fused.act_fn


def _linear(weight: Tensor) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach())
    return linear
