"""What better rounding is worth at equal bytes, on one layer and on a Llama: ``python -m benchmarks.rounding``."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.models import stdlib_llama
from benchmarks.models.trained import Trained, kl_divergence
from quantize import NEAREST, Rounding, StorageFormat, parse_format, restored
from quantize.rounding.moments import output_errors
from sensitivity import discover, input_moments

ROUNDINGS = {
    "nearest": NEAREST,
    "scale_search": Rounding("scale_search"),
    "gptq, steps=0": Rounding("gptq", steps=0),
    "gptq": Rounding("gptq"),
    "gptq, act_order": Rounding("gptq", act_order=True),
}


def main() -> None:
    """Print both tables."""
    _one_layer([parse_format(f"int{bits}-g64") for bits in (2, 3, 4)])
    _whole_model([parse_format(f"int{bits}-g32") for bits in (2, 3, 4)])


def _one_layer(formats: list[StorageFormat]) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(384, 1536)).astype(np.float32)
    mixing = rng.normal(size=(1536, 1536)) * np.exp(-np.arange(1536) / 200)[:, None]
    inputs = rng.normal(size=(4000, 1536)) @ mixing
    moment = inputs.T @ inputs
    print("output error relative to nearest, a random layer of 384 x 1536 with correlated inputs")
    print(f"{'':18}{''.join(f'{fmt.name:>10}' for fmt in formats)}{'seconds':>10}")
    plain = [_error(weight, fmt, NEAREST, moment) for fmt in formats]
    for name, rounding in ROUNDINGS.items():
        started = time.perf_counter()
        errors = [_error(weight, fmt, rounding, moment) for fmt in formats]
        seconds = (time.perf_counter() - started) / len(formats)
        ratios = "".join(f"{error / base:>10.3f}" for error, base in zip(errors, plain, strict=True))
        print(f"{name:18}{ratios}{seconds:>10.2f}")


def _error(
    weight: NDArray[np.float32], fmt: StorageFormat, rounding: Rounding, moment: NDArray[np.float64]
) -> float:
    return float(output_errors(restored(weight, fmt, rounding, moment) - weight, moment).sum())


def _whole_model(formats: list[StorageFormat]) -> None:
    trained = stdlib_llama.load()
    layers = [
        layer for layer in discover(trained.model) if all(type(user) is nn.Linear for user in layer.modules)
    ]
    moments = input_moments(trained.model, trained.calibration, trained.loss, layers)
    weights = {layer.name: layer.weight.detach().numpy() for layer in layers}
    print(
        f"\nmean KL on held-out text, {trained.name}, {len(weights)} matrices in one format, thousandths of a nat"
    )
    print(f"{'':18}{''.join(f'{fmt.name:>10}' for fmt in formats)}")
    for name, rounding in ROUNDINGS.items():
        row = [
            _divergence(
                trained,
                {layer: restored(weight, fmt, rounding, moments[layer]) for layer, weight in weights.items()},
            )
            for fmt in formats
        ]
        print(f"{name:18}{''.join(f'{1000 * value:>10.3f}' for value in row)}")


def _divergence(trained: Trained, weights: Mapping[str, NDArray[np.float32]]) -> float:
    changed = copy.deepcopy(trained.model)
    with torch.no_grad():
        for layer, weight in weights.items():
            changed.get_parameter(f"{layer}.weight").copy_(torch.from_numpy(weight))
        values = [
            kl_divergence(trained.logits(trained.model, batch), trained.logits(changed, batch))
            for batch in trained.held_out
        ]
    return float(torch.cat(values).mean())


if __name__ == "__main__":
    main()
