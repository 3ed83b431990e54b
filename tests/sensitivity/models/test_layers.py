"""Which weights a profile has rows for."""

from __future__ import annotations

import pytest
from torch import nn

from allocator import InvalidInputError
from sensitivity import discover, profile_model


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.middle = nn.Linear(4, 4)
        self.head = nn.Linear(4, 9)
        self.head.weight = self.embed.weight


def names(model: nn.Module, *exclude: str) -> list[str]:
    return [layer.name for layer in discover(model, exclude)]


def test_linear_convolutions_and_embeddings_are_found_in_the_order_of_modules() -> None:
    model = nn.Sequential(
        nn.Embedding(9, 4),
        nn.LayerNorm(4),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Conv1d(4, 4, 1),
        nn.BatchNorm1d(4),
        nn.Conv2d(4, 4, 1),
        nn.Conv3d(4, 4, 1),
    )
    assert names(model) == ["0", "2.0", "3", "5"]


def test_a_layer_knows_its_weight_and_its_module() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    (layer,) = discover(model)
    assert layer.weight is model[0].weight
    assert layer.modules == (model[0],)


def test_tied_weights_are_one_layer_with_the_name_of_the_first_module() -> None:
    model = Tied()
    layers = discover(model)
    assert [layer.name for layer in layers] == ["embed", "middle"]
    assert layers[0].modules == (model.embed, model.head)


def test_equal_weights_that_are_not_tied_stay_apart() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.load_state_dict({**model.state_dict(), "1.weight": model[0].weight})
    assert names(model) == ["0", "1"]


def test_a_module_that_is_used_twice_is_one_layer() -> None:
    linear = nn.Linear(2, 2)
    assert names(nn.Sequential(linear, nn.ReLU(), linear)) == ["0"]


def test_names_and_globs_are_excluded() -> None:
    model = nn.ModuleDict(
        {"a": nn.Linear(2, 2), "b_1": nn.Linear(2, 2), "b_2": nn.Linear(2, 2), "c": nn.Linear(2, 2)}
    )
    assert names(model, "a") == ["b_1", "b_2", "c"]
    assert names(model, "b_*") == ["a", "c"]
    assert names(model, "?", "b_1") == ["b_2"]


def test_excluding_one_use_of_a_tied_weight_leaves_the_weight_alone() -> None:
    assert names(Tied(), "head") == ["middle"]


def test_patterns_that_match_nothing_are_refused_with_near_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(InvalidInputError, match=r"/exclude/1: unknown layer or glob 'layer\.\*'"):
        discover(model, ["0", "layer.*"])


def test_modules_that_take_no_format_cannot_be_excluded() -> None:
    with pytest.raises(InvalidInputError, match="/exclude/0: unknown layer or glob '1'"):
        discover(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), ["1"])


@pytest.mark.parametrize("model", [nn.Sequential(nn.ReLU(), nn.LayerNorm(3)), nn.ReLU()])
def test_a_model_with_nothing_to_quantize_is_refused(model: nn.Module) -> None:
    detail = (
        f"/model: {type(model).__name__} has nothing to quantize: no Linear, Conv1d, Conv2d, Embedding left"
    )
    with pytest.raises(InvalidInputError, match=detail):
        discover(model)


def test_excluding_everything_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Sequential has nothing to quantize"):
        discover(nn.Sequential(nn.Linear(2, 2)), ["*"])


def test_the_router_of_llama_4_is_no_layer_and_the_model_is_measured() -> None:
    """It gives out a pair, which ended every profile in a traceback."""
    import torch
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    torch.manual_seed(0)
    config = Llama4TextConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, intermediate_size_mlp=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, num_local_experts=2, moe_layers=[0],
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = Llama4ForCausalLM(config).eval()

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).logits.square().flatten(1).mean(1)

    profile = profile_model(model, [torch.tensor([[3, 4, 5]])], loss, ["int8"], ["weight_error"])
    assert "model.layers.0.feed_forward.router" not in [layer.name for layer in profile.layers]
    reasons = {item.name: item.reason for item in profile.outside}
    assert reasons["model.layers.0.feed_forward.router.weight"] == "Llama4Router: not supported here"
