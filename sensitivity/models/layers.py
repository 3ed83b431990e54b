"""Which weights of a model take a format: Linear, Conv and Embedding, tied weights once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.contract.patterns import matching

_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)


@dataclass(frozen=True, eq=False)
class LayerRef:
    """One row of the profile: a weight, and every module that uses it.

    Attributes:
        name: Path of the first module that uses the weight.
        weight: The parameter.
        modules: The modules that use it; more than one where weights are tied.
    """

    name: str
    weight: nn.Parameter
    modules: tuple[nn.Module, ...]


def discover(model: nn.Module, exclude: Sequence[str] = ()) -> tuple[LayerRef, ...]:
    """Find the layers of a model, in the order of its modules.

    Args:
        exclude: Names or globs of modules to leave in full precision; a tied weight stays out with any of its users.

    Returns:
        One entry per distinct weight.

    Raises:
        InvalidInputError: Nothing is left to quantize, the model is itself a layer, or a pattern matches no layer.

    Example:
        >>> model = nn.Sequential(nn.Embedding(10, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> [layer.name for layer in discover(model)]
        ['0', '2']
    """
    found = quantizable(model)
    if "" in found:
        detail = f"the model is a single {type(model).__name__} without a name; wrap it in nn.Sequential"
        raise InvalidInputError(Fault("/model", detail))
    dropped = _excluded(exclude, list(found))
    tied: dict[int, list[str]] = {}
    for name, module in found.items():
        tied.setdefault(id(module.weight), []).append(name)
    layers = tuple(
        LayerRef(names[0], _weight(found[names[0]]), tuple(found[name] for name in names))
        for names in tied.values()
        if not dropped.intersection(names)
    )
    if not layers:
        kinds = ", ".join(kind.__name__ for kind in _KINDS)
        detail = f"{type(model).__name__} has nothing to quantize: no {kinds} left"
        raise InvalidInputError(Fault("/model", detail))
    return layers


def quantizable(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose weight takes a format, by path, in the order of the model."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _KINDS) and not _chooses_experts(module)
    }


def _chooses_experts(module: nn.Module) -> bool:
    # The router of Llama 4 is a Linear that gives out weights and choices of experts, and no matrix's product.
    kind = type(module)
    return (
        isinstance(module, nn.Linear)
        and kind.forward is not nn.Linear.forward
        and kind.__name__.endswith("Router")
    )


def _weight(module: nn.Module) -> nn.Parameter:
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _excluded(patterns: Iterable[str], names: Sequence[str]) -> set[str]:
    dropped: set[str] = set()
    for index, pattern in enumerate(patterns):
        try:
            dropped |= {names[match] for match in matching(pattern, names)}
        except ValueError as error:
            raise InvalidInputError(Fault(pointer(("exclude", index)), str(error))) from error
    return dropped
