"""A model as a plan leaves it, and how far that is from the original: what ``refine`` asks for.

Weights are rounded in place and put back, so that a plan costs one pass over the data and no copy of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from quantize import Moments, StorageFormat, formats_of, restored
from quantize.plan import require_layers
from sensitivity.curvature.output_metrics import OutputFunction, sample_means
from sensitivity.models.layers import LayerRef, discover
from sensitivity.study.calibration import Batch
from sensitivity.study.study import changed_weight, replaced


@dataclass(frozen=True, eq=False)
class Planned:
    """Applies plans to a model for a while.

    Attributes:
        model: In evaluation mode; bit-identical afterwards.
        kept: Rounded weights by layer and format: each is rounded once.
        moments: Layer → second moments of its inputs, for formats that need to know how much each input counts; see
            :func:`sensitivity.study.input_moments.input_moments`.
    """

    model: nn.Module
    kept: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    moments: Moments = field(default_factory=dict)

    @contextmanager
    def applied(self, plan: Mapping[str, str]) -> Iterator[None]:
        """Let the model compute as a plan says.

        Args:
            plan: Layer → format; layers that are not in it stay as they are.

        Yields:
            Nothing; the original weights are back, bit for bit, at the end.

        Raises:
            InvalidInputError: A layer or format is unknown, or a weight cannot be stored in its format; nothing was
                changed.
        """
        layers = {layer.name: layer for layer in discover(self.model)}
        formats = formats_of(plan)
        require_layers(formats, layers)
        weights: list[tuple[LayerRef, Tensor]] = []
        for name, fmt in formats.items():
            if (name, fmt.name) not in self.kept:
                self.kept[name, fmt.name] = self._rounded(layers[name], fmt)
            weights.append((layers[name], self.kept[name, fmt.name]))
        with ExitStack() as stack:
            for layer, weight in weights:
                stack.enter_context(replaced(layer, weight))
            yield

    def _rounded(self, layer: LayerRef, fmt: StorageFormat) -> Tensor:
        moment = self.moments.get(layer.name)
        return changed_weight(layer, lambda plain: restored(plain, fmt, moment=moment))


def distance_of_plans(
    model: nn.Module,
    batches: Sequence[Batch],
    outputs: OutputFunction,
    distance: Callable[[Tensor, Tensor], Tensor],
    planned: Planned | None = None,
) -> Callable[[Mapping[str, str]], float]:
    """Make the function that measures plans.

    Args:
        model: In evaluation mode.
        batches: What it is measured on; at least one.
        outputs: (model, batch) → (B, …) outputs.
        distance: (original outputs, changed outputs) → (B, …) distances.
        planned: Shares rounded weights between several such functions.

    Returns:
        Plan → mean distance over samples, the original's outputs being computed once, here.

    Raises:
        InvalidInputError: There is no data, or the model is in training mode.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
        >>> measure = distance_of_plans(
        ...     model, [torch.randn(4, 8)], lambda model, batch: model(batch), lambda a, b: (a - b).square().sum(1)
        ... )
        >>> measure({}), measure({"0": "int2"}) > measure({"0": "int8"}) > 0
        (0.0, True)
    """
    if not batches:
        raise InvalidInputError(
            Fault("/batches", "expected at least one batch to measure plans on, got none")
        )
    if model.training:
        raise InvalidInputError(Fault("/model", "the model is in training mode; call model.eval() first"))
    runs = Planned(model) if planned is None else planned
    with torch.inference_mode():
        originals = [outputs(model, batch) for batch in batches]

    def measure(plan: Mapping[str, str]) -> float:
        with runs.applied(plan), torch.inference_mode():
            rows = [
                sample_means(distance(original, outputs(model, batch)))
                for original, batch in zip(originals, batches, strict=True)
            ]
        return float(torch.cat(rows).double().mean())

    return measure
