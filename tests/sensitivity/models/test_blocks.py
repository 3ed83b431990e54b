"""Which modules are blocks, and what is seen of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from sensitivity import discover
from sensitivity.models.blocks import (
    Block,
    checked,
    find_blocks,
    first_activation,
    owners,
    require_blocks,
    watching,
)
from tests.sensitivity.studies import Blocks, state


def names(blocks: tuple[Block, ...]) -> list[str]:
    return [block.name for block in blocks]


class Experts(nn.Module):
    """Two blocks of three experts each: the longest list is not the one of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(2, 2) for _ in range(3))}) for _ in range(2)
        )
        self.heads = nn.ModuleList([nn.Linear(2, 1)])


def test_blocks_are_the_members_of_the_longest_outer_list() -> None:
    assert names(find_blocks(Blocks())) == ["blocks.0", "blocks.1", "blocks.2"]
    assert names(find_blocks(Experts())) == ["layers.0", "layers.1"]
    assert names(find_blocks(nn.ModuleList([nn.Linear(1, 1), nn.Tanh()]))) == ["0", "1"]
    assert find_blocks(nn.Sequential(nn.Linear(1, 1))) == ()
    assert find_blocks(nn.Sequential(nn.ModuleList())) == ()


def test_blocks_can_be_named_in_any_order() -> None:
    assert names(find_blocks(Blocks(), ["head", "blocks.[02]", "stem"])) == [
        "stem",
        "blocks.0",
        "blocks.2",
        "head",
    ]


def test_a_pattern_that_matches_no_module_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="/blocks/1: unknown layer or glob 'block'"):
        find_blocks(Blocks(), ["stem", "block"])


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="/blocks: expected at least 1 blocks, found 0"):
        require_blocks(nn.Sequential(nn.Linear(1, 1)), None)
    with pytest.raises(InvalidInputError, match="/blocks: expected at least 2 blocks, found 1"):
        require_blocks(Blocks(), ["stem"], least=2)


def test_the_innermost_block_owns_a_layer() -> None:
    model = Blocks()
    layers = discover(model)
    assert owners(layers, find_blocks(model)) == [None, 0, 1, 2, None]
    assert owners(layers, find_blocks(model, ["blocks", "blocks.1", "head"])) == [None, 0, 1, 0, 2]


def test_the_first_floating_point_tensor_is_the_activation() -> None:
    wanted = torch.zeros(2)
    for value in (
        wanted,
        (torch.tensor([1]), None, wanted, torch.ones(1)),
        {"a": [], "b": {"c": wanted}},
        ((), {"hidden": wanted}),
    ):
        assert first_activation(value) is wanted
    assert first_activation({"a": [torch.tensor([1]), "text"]}) is None


def test_inputs_are_seen_as_they_were_before_the_block_changed_them() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
    seen: list[tuple[str, Tensor | None, Tensor | None]] = []
    inputs = torch.randn(4, 3)
    with (
        torch.no_grad(),
        watching(find_blocks(model, ["1"]), lambda block, *pair: seen.append((block.name, *pair))),
    ):
        outputs = model(inputs)
    ((name, before, after),) = seen
    assert name == "1"
    assert before is not None
    assert torch.equal(before, model[0](inputs))
    assert after is outputs


def test_hooks_are_gone_when_the_model_raises() -> None:
    model = Blocks()
    before = state(model)
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        watching(find_blocks(model), lambda *_: None),
    ):
        model(torch.ones(2, 3))
    assert state(model) == before


@pytest.mark.parametrize(
    ("activation", "detail"),
    [
        (None, "takes or returns no floating-point tensor"),
        (torch.tensor([torch.inf]), "its activation is NaN or infinite"),
    ],
)
def test_activations_that_say_nothing_are_refused_with_the_block(
    activation: Tensor | None, detail: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"/blocks/layers.0: {detail}"):
        checked(Block("layers.0", nn.Identity()), activation)
