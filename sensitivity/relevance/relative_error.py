r"""How much of a layer rounding changes, relative to the layer itself.

.. math:: e_{l,f} = \frac{\lVert Q_f(W_l) - W_l \rVert^2}{\lVert W_l \rVert^2}
          \qquad\text{or}\qquad
          e_{i,l,f} = \frac{\lVert (Q_f(W_l) - W_l)\, x_{i,l} \rVert^2}{\lVert W_l\, x_{i,l} \rVert^2}

the first of the weight, without data; the second of what the layer computes from a sample, without its bias. Either is
0 for a format that changes nothing and 1 for one that rounds everything to zero; importances are multiplied by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from allocator.knapsack.problem import FloatArray
from sensitivity.curvature.rounding_error import weight_change
from sensitivity.models.layers import LayerRef
from sensitivity.relevance.propagation import weight_of
from sensitivity.relevance.rewrites import multi_head_attention_forward
from sensitivity.study.calibration import LossFunction
from sensitivity.study.samples import by_sample, require_use, sample_count
from sensitivity.study.study import Study, weight_in
from sensitivity.study.tasks import Key

#: Functions that use the weights of layers out of sight.
_HIDING = {"multi_head_attention_forward": multi_head_attention_forward}


def weight_errors(study: Study) -> FloatArray:
    """Relative squared rounding error of every weight in every format.

    Args:
        study: Layers and formats; the data is not looked at.

    Returns:
        (L, F)
    """
    keys = [(layer.name,) for layer in study.layers]
    return np.stack(study.engine(study, "weight_error", keys, _weight_errors))


def _weight_errors(study: Study, key: Key) -> FloatArray:
    (layer,) = (item for item in study.layers if item.name == key[0])
    weight = layer.weight.detach().double()
    norm = float(weight.square().sum())
    squares = [float((weight_in(study, layer, fmt) - weight).square().sum()) for fmt in study.formats]
    return _ratio(np.array(squares), np.array(norm))


def output_errors(study: Study, counted: LossFunction) -> FloatArray:
    """Relative squared error of what every layer computes, by sample.

    Args:
        study: Model, data, layers and formats. Rows that belong to one sample must be consecutive.
        counted: (model, batch) → (B,): runs the model, and says how many samples the batch has.

    Returns:
        (N, L, F)

    Raises:
        InvalidInputError: A layer takes no part, or its rows cannot be told apart by sample.
    """
    keys = [(fmt.name,) for fmt in study.formats]
    pieces = study.engine(study, "output_error", keys, partial(_output_errors, counted=counted))
    return np.stack(pieces, axis=2)


def _output_errors(study: Study, key: Key, *, counted: LossFunction) -> FloatArray:
    (fmt,) = (item for item in study.formats if item.name == key[0])
    changes = [weight_change(study, layer, fmt) for layer in study.layers]
    samples = []
    for index, batch in enumerate(study.batches):
        with torch.inference_mode(), Comparing(study.layers, changes) as seen:
            count = sample_count(counted(study.model, batch), index)
        samples.append(seen.ratios(count))
    return np.concatenate(samples)


class Comparing(TorchFunctionMode):
    """Squares of what layers compute, with their weight and with the change of it.

    Args:
        changes: The change of each weight.
    """

    def __init__(self, layers: tuple[LayerRef, ...], changes: list[Tensor]) -> None:
        super().__init__()
        self._layers = layers
        self._changes = changes
        self._index = {id(layer.weight): index for index, layer in enumerate(layers)}
        self._squares: list[list[tuple[Tensor, ...]]] = [[] for _ in layers]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        del types
        named = kwargs or {}
        name = getattr(func, "__name__", "")
        layer = self._index.get(id(weight_of(name, args, named)))
        if layer is not None:
            squares = (
                _computed(func, name, args, named, weight)
                for weight in (self._changes[layer], self._layers[layer].weight)
            )
            self._squares[layer].append(tuple(squares))
        if name in _HIDING:
            with self:
                return _HIDING[name](*args, **named)
        return func(*args, **named)

    def ratios(self, count: int) -> FloatArray:
        """Relative errors of what was seen.

        Args:
            count: Number of samples, B.

        Returns:
            (B, L)
        """
        require_use(self._layers, [bool(calls) for calls in self._squares])
        found = []
        for layer, calls in zip(self._layers, self._squares, strict=True):
            sums = np.zeros((2, count))
            for call in calls:
                sums += np.stack([by_sample(part, count, layer.name).sum(1).cpu().numpy() for part in call])
            found.append(_ratio(*sums))
        return np.stack(found, axis=1)


def _computed(
    function: Callable[..., Tensor],
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    weight: Tensor,
) -> Tensor:
    # (B · m,) squares of what the function gives with another weight and no bias
    positional, named = list(args), dict(kwargs)
    if len(positional) > 1:
        positional[1] = weight
    else:
        named["weight"] = weight
    if name != "embedding" and len(positional) > 2:
        positional[2] = None
    elif name != "embedding":
        named["bias"] = None
    return function(*positional, **named).double().square().flatten(1).sum(1)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    # Where there is nothing to change, nothing is changed.
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
