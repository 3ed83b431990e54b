"""Experts that are stored as one three-dimensional parameter, seen as layers of their own.

transformers keeps the experts of a block fused: ``gate_up_proj`` (E, 2I, H) and ``down_proj`` (E, H, I), which no
Linear layer owns and :func:`sensitivity.layers.discover` therefore does not find. Split, every expert is two Linear
layers on the same memory, ``….experts.3.gate_up_proj`` and ``….experts.3.down_proj``, and estimators can see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.errors import pointer

#: How transformers says that experts are stored in a way that is not supported here, and what it should be.
_LAYOUT = {"is_transposed": False, "has_bias": False, "has_gate": True, "has_post_expert_norm": False}


class Expert(nn.Module):
    """One expert: gate and up projection in one, a gated activation, down projection.

    Args:
        gate_up: (2I, H), used in place.
        down: (H, I), used in place.
        gate: (…, 2I) → (…, I).
    """

    def __init__(self, gate_up: Tensor, down: Tensor, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate_up_proj = _linear(gate_up)
        self.down_proj = _linear(down)
        self._gate = gate

    def forward(self, hidden: Tensor) -> Tensor:
        """Run the expert.

        Args:
            hidden: (T, H) tokens.

        Returns:
            (T, H).
        """
        made: Tensor = self.down_proj(self._gate(self.gate_up_proj(hidden)))
        return made


class SplitExperts(nn.Module):
    """Stands in for a fused module: the same numbers, one expert after the other.

    Args:
        fused: The fused module.
        gate: (…, 2I) → (…, I).
    """

    def __init__(self, fused: nn.Module, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        gate_up, down = fused.gate_up_proj, fused.down_proj
        assert isinstance(gate_up, Tensor)
        assert isinstance(down, Tensor)
        self.num_experts = len(gate_up)
        for index in range(self.num_experts):
            self.add_module(str(index), Expert(gate_up.data[index], down.data[index], gate))

    def forward(self, hidden: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Add up what the chosen experts say.

        Args:
            hidden: (T, H) tokens.
            top_k_index: (T, k) experts of each token.
            top_k_weights: (T, k) their weights.

        Returns:
            (T, H).
        """
        total = torch.zeros_like(hidden)
        for index, expert in enumerate(self.children()):
            token, place = torch.where(top_k_index == index)
            if len(token):
                made = expert(hidden[token]) * top_k_weights[token, place, None]
                total = total.index_add(0, token, made.to(total.dtype))
        return total


@contextmanager
def split_experts(model: nn.Module) -> Iterator[None]:
    """Let a model compute with one Linear layer per expert and projection.

    Nothing is copied: the layers are views of the fused parameters. Profile inside; the names of the rows are those of
    the split layers.

    Args:
        model: A transformers model with fused experts, such as Mixtral or Qwen-MoE.

    Yields:
        Nothing; the fused modules are back at the end.

    Raises:
        InvalidInputError: The model has no fused experts, or they are stored in another way.
    """
    found = [(name, module) for name, module in model.named_modules() if _is_fused(module)]
    if not found:
        detail = f"{type(model).__name__} has no experts in three-dimensional parameters; nothing to split"
        raise InvalidInputError(Fault("/model", detail))
    for name, module in found:
        _require_known(name, module)
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for name, module in found:
            path, _, last = name.rpartition(".")
            parent = model.get_submodule(path)
            split = SplitExperts(module, getattr(module, "_apply_gate")).train(module.training)  # noqa: B009
            setattr(parent, last, split)
            replaced.append((parent, last, module))
        yield
    finally:
        for parent, last, module in replaced:
            setattr(parent, last, module)


def _linear(weight: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = nn.Parameter(weight)
    return made


def _is_fused(module: nn.Module) -> bool:
    return hasattr(module, "num_experts") and any(
        parameter.dim() == 3 for parameter in module.parameters(recurse=False)
    )


def _require_known(name: str, module: nn.Module) -> None:
    names = {key for key, _ in module.named_parameters(recurse=False)}
    odd = [
        f"{key} is {value}"
        for key, wanted in _LAYOUT.items()
        if (value := getattr(module, key, None)) != wanted
    ]
    if names != {"gate_up_proj", "down_proj"}:
        odd.append(f"its parameters are {', '.join(sorted(names))}")
    if not name:
        odd.append("it is the model itself")
    if odd:
        wanted = "experts as gate_up_proj (E, 2I, H) and down_proj (E, H, I) without biases"
        detail = f"expected {wanted}, but {'; '.join(odd)}"
        raise InvalidInputError(Fault(pointer(("layers", name)), detail))
