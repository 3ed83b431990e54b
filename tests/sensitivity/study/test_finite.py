"""The module where numbers stop being finite is found and named."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sensitivity.study.finite import where_not_finite
from tests.sensitivity.language_models import llama, tokens
from tests.sensitivity.studies import Blocks, state


@pytest.mark.parametrize("name", ["stem", "blocks.0.0", "blocks.2.0", "head"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_layer_with_the_bad_weight_is_named(name: str, bad: float) -> None:
    model = Blocks()
    with torch.no_grad():
        model.get_submodule(name).weight[0, 0] = bad
    before = state(model)
    found = where_not_finite(model, lambda: model(torch.ones(2, 4)))
    assert found == f"{name!r} (Linear) is the first to give such numbers"
    assert state(model) == before


def test_in_a_language_model_it_is_the_innermost_module() -> None:
    model = llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 2] = torch.nan
    found = where_not_finite(model, partial(model, tokens()))
    assert found == "'model.layers.1.mlp.up_proj' (Linear) is the first to give such numbers"


class Root(nn.Module):
    """Gives the logarithm of what it is given, by itself."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.log()


def test_a_model_without_parts_is_named_by_its_class() -> None:
    model = Root()
    assert where_not_finite(model, lambda: model(torch.zeros(1))).startswith("the Root itself is the first")


def test_where_all_modules_are_sound_it_is_said() -> None:
    model = Blocks()
    found = where_not_finite(model, lambda: model(torch.ones(2, 4)) * torch.inf)
    assert found == "all modules give finite numbers; it is what is made of them"


def test_hooks_are_gone_also_when_the_model_raises() -> None:
    model = Blocks()
    before = state(model)
    with pytest.raises(RuntimeError, match="shape"):
        where_not_finite(model, lambda: model(torch.ones(2, 5)))
    assert state(model) == before
