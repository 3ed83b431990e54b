"""Rewritten functions give the values of those that they stand for."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sensitivity.relevance.rewrites import REWRITES


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


VECTORS = random(3, 4, 6)
HEADS = (random(2, 4, 5, 6), random(2, 4, 7, 6, seed=2), random(2, 4, 7, 6, seed=3))
FEW = tuple(item[:, :2] for item in HEADS[1:])
ALLOWED = random(5, 7, seed=4) > -0.5


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("layer_norm", (VECTORS, [6]), {}),
        ("layer_norm", (VECTORS, [4, 6]), {"weight": random(4, 6), "bias": random(4, 6, seed=5), "eps": 0.1}),
        ("rms_norm", (VECTORS, [6]), {}),
        ("rms_norm", (VECTORS, [6]), {"weight": random(6), "eps": 0.1}),
        ("group_norm", (VECTORS, 2), {}),
        ("group_norm", (random(3, 4, 5, 5), 2, random(4), random(4, seed=5)), {"eps": 0.1}),
        ("normalize", (VECTORS,), {}),
        ("normalize", (VECTORS,), {"p": 1, "dim": -1}),
        ("normalize", (0 * VECTORS,), {}),
        ("scaled_dot_product_attention", HEADS, {}),
        ("scaled_dot_product_attention", HEADS, {"scale": 0.3, "attn_mask": ALLOWED}),
        ("scaled_dot_product_attention", HEADS, {"attn_mask": random(2, 1, 5, 7)}),
        ("scaled_dot_product_attention", HEADS, {"is_causal": True}),
        ("scaled_dot_product_attention", (HEADS[0], *FEW), {"enable_gqa": True}),
    ],
)
def test_values_are_those_of_the_function(name: str, args: Any, kwargs: Any) -> None:
    torch.testing.assert_close(
        REWRITES[name](*args, **kwargs), getattr(functional, name)(*args, **kwargs), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("widths", [{}, {"kdim": 3, "vdim": 5}], ids=["one width", "three widths"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"attn_mask": random(4, 7, seed=4) > 0.5},
        {"attn_mask": random(4, 4, 7)},
        {"key_padding_mask": torch.arange(7) > torch.tensor([[3], [6]])},
        {"attn_mask": random(4, 7), "key_padding_mask": torch.arange(7) > torch.tensor([[3], [6]])},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_multi_head_attention(options: dict[str, Any], widths: dict[str, int], bias: bool) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(6, 2, bias=bias, **widths).double().eval()
    calls: list[dict[str, Any]] = []

    class Keeping(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is functional.multi_head_attention_forward:
                calls.append(inspect.signature(func).bind(*args, **kwargs).arguments)
            return func(*args, **(kwargs or {}))

    keys = [random(7, 2, widths.get(name, 6), seed=seed) for seed, name in ((2, "kdim"), (3, "vdim"))]
    if options.get("key_padding_mask") is not None and options.get("attn_mask") is not None:
        options = {**options, "key_padding_mask": options["key_padding_mask"].double() * -1e9}
    with Keeping():
        expected = module(random(4, 2, 6), *keys, **options)
    made = REWRITES["multi_head_attention_forward"](**calls[0])
    for mine, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
