"""What a weight is multiplied with or looked up by, whatever its module is called with.

A subclass of ``nn.Embedding`` may be called with something else than the entries that it looks up (OPT, BART and
Whisper make positions of a mask or of token ids), and may change what it found (BART and Gemma scale it). What counts
is what the module's own lookup received and gave, so that is what is noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: (module, inputs, output) → what stands for the output, or None to leave it.
Note: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor | None]


def on_call(module: nn.Module, note: Note) -> Callable[[], None]:
    """Be told what goes into the weight of a module and what comes out, every time that it runs.

    Args:
        module: A Linear, a convolution or an Embedding.
        note: Told; the entries are the inputs of an Embedding.

    Returns:
        A function that ends it.

    Example:
        >>> class Positions(nn.Embedding):
        ...     def forward(self, mask):
        ...         return 2 * super().forward(mask.cumsum(1) - 1)
        >>> module, seen = Positions(8, 4), []
        >>> end = on_call(module, lambda module, entries, output: seen.append(entries.tolist()))
        >>> _ = module(torch.tensor([[1, 1, 1]]))
        >>> end()
        >>> seen
        [[[0, 1, 2]]]
    """
    if not isinstance(module, nn.Embedding) or type(module).forward is nn.Embedding.forward:

        def told(
            module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
        ) -> Tensor | None:
            return note(module, inputs[0] if inputs else next(iter(named.values())), output)

        return module.register_forward_hook(told, with_kwargs=True).remove
    return _on_lookup(module, note)


def _on_lookup(module: nn.Embedding, note: Note) -> Callable[[], None]:
    own = module.__dict__.get("forward")  # somebody else's wrapper, if any
    forward = module.forward

    def watched(*inputs: Any, **named: Any) -> Any:  # noqa: ANN401
        with _Lookups(module, note):
            return forward(*inputs, **named)

    module.__dict__["forward"] = watched

    def end() -> None:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own

    return end


class _Lookups(TorchFunctionMode):
    def __init__(self, module: nn.Embedding, note: Note) -> None:
        super().__init__()
        self._module, self._note = module, note

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        named = kwargs or {}
        made = func(*args, **named)
        weight = self._module.weight
        if func is nn.functional.embedding:
            entries = args[0] if args else named["input"]
            table = args[1] if len(args) > 1 else named["weight"]
            if table is weight:
                return self._told(entries, made)
        elif func is Tensor.__getitem__ and args[0] is weight:
            return self._told(torch.arange(len(weight), device=weight.device)[args[1]], made)
        elif func is Tensor.index_select and args[0] is weight:
            return self._told(args[-1], made)
        return made

    def _told(self, entries: Tensor, made: Tensor) -> Tensor:
        if (
            entries.dim() == 1
        ):  # the same for all samples: rows of one sample, which no sample can be told apart in
            changed = self._note(self._module, entries[None], made[None])
            return made if changed is None else changed[0]
        changed = self._note(self._module, entries, made)
        return made if changed is None else changed
