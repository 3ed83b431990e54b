"""Blocks answer from memory only where that cannot change a number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sensitivity.prefix import Prefix
from tests.sensitivity.studies import Blocks, state

INPUTS = torch.linspace(-1, 1, 20).reshape(5, 4)


@pytest.mark.parametrize(
    ("layer", "blocks"),
    [
        ("stem", None),
        ("head", None),
        ("blocks.0.0", 0),
        ("blocks.1.0", 1),
        ("blocks.2.0", 2),
        ("blocks.12.attention.query", 12),
        ("blocksy.2.0", None),
        ("other.blocks.2.0", None),
        ("blocks.x.0", None),
    ],
)
def test_only_layers_inside_a_block_have_blocks_before_them(layer: str, blocks: int | None) -> None:
    assert Prefix(Blocks()).before(layer) == blocks


def test_names_of_blocks_are_taken_literally() -> None:
    model = nn.ModuleDict({"a b": nn.ModuleList([nn.Sequential(nn.Linear(2, 2)) for _ in range(2)])})
    assert Prefix(model).before("a b.1.0") == 1
    model = nn.ModuleDict({"a+": nn.ModuleList([nn.Sequential(nn.Linear(2, 2)) for _ in range(2)])})
    assert Prefix(model).before("aa.1.0") is None


def test_the_longest_list_is_taken_as_the_blocks() -> None:
    model = nn.ModuleDict(
        {
            "few": nn.ModuleList([nn.Sequential(nn.Linear(2, 2)) for _ in range(2)]),
            "many": nn.ModuleList([nn.Sequential(nn.Linear(2, 2)) for _ in range(3)]),
        }
    )
    assert Prefix(model).before("many.1.0") == 1
    assert Prefix(model).before("few.1.0") is None


def test_a_model_without_a_list_has_no_blocks() -> None:
    prefix = Prefix(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    assert prefix.before("1") is None
    with prefix.recording(0), prefix.replaying(None, 0):
        pass


def recorded(model: nn.Module) -> tuple[Prefix, Tensor]:
    prefix = Prefix(model)
    with torch.no_grad(), prefix.recording(0):
        return prefix, model(INPUTS)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_replaying_gives_the_recorded_outputs_and_skips_the_work(blocks: int) -> None:
    model = Blocks()
    prefix, reference = recorded(model)
    calls: list[int] = []
    for index, block in enumerate(model.blocks):
        block[0].register_forward_hook(lambda *_, index=index: calls.append(index))
    with torch.no_grad(), prefix.replaying(blocks, 0):
        assert torch.equal(model(INPUTS), reference)
    assert calls == list(range(blocks, 3))


def test_each_batch_has_outputs_of_its_own() -> None:
    model = Blocks()
    prefix = Prefix(model)
    with torch.no_grad():
        references = []
        for batch, inputs in enumerate((INPUTS, -INPUTS)):
            with prefix.recording(batch):
                references.append(model(inputs))
        assert not torch.equal(references[0], references[1])
        for batch, inputs in enumerate((INPUTS, -INPUTS)):
            with prefix.replaying(2, batch):
                assert torch.equal(model(inputs), references[batch])


def test_blocks_may_return_more_than_a_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return hidden + 1, {"seen": hidden}

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Pair(), Pair()])

        def forward(self, inputs: Tensor) -> Tensor:
            hidden, extra = self.blocks[0](inputs)
            hidden, more = self.blocks[1](hidden + extra["seen"])
            result: Tensor = hidden + more["seen"]
            return result

    model = Pairs()
    prefix, reference = recorded(model)
    with prefix.replaying(1, 0):
        assert torch.equal(model(INPUTS), reference)


def _break_off(prefix: Prefix, stage: str) -> None:
    with prefix.recording(0) if stage == "recording" else prefix.replaying(2, 0):
        raise RuntimeError("broke")


@pytest.mark.parametrize("stage", ["recording", "replaying"])
def test_the_model_is_as_it_was_afterwards_and_after_an_error(stage: str) -> None:
    model = Blocks()
    before = state(model)
    prefix, reference = recorded(model)
    assert state(model) == before
    with pytest.raises(RuntimeError, match="broke"):
        _break_off(prefix, stage)
    assert state(model) == before
    with torch.no_grad():
        assert torch.equal(model(INPUTS), reference)


def test_a_forward_that_was_set_on_a_block_survives() -> None:
    model = Blocks()
    model.blocks[0].forward = lambda hidden: hidden * 0
    prefix, reference = recorded(model)
    with prefix.replaying(1, 0):
        pass
    with torch.no_grad():
        assert torch.equal(model(INPUTS), reference)


def test_blocks_that_take_no_part_are_passed_over() -> None:
    model = Blocks(order=(0, 2))
    prefix, reference = recorded(model)
    with torch.no_grad(), prefix.replaying(2, 0):
        assert torch.equal(model(INPUTS), reference)


def test_outputs_that_are_changed_in_place_afterwards_are_kept_as_they_were() -> None:
    class InPlace(Blocks):
        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.stem(inputs)
            for block in self.blocks:
                hidden = block(hidden)
                hidden += 1
            outputs: Tensor = self.head(hidden)
            return outputs

    model = InPlace()
    prefix, reference = recorded(model)
    for _ in range(2):
        with torch.no_grad(), prefix.replaying(1, 0):
            assert torch.equal(model(INPUTS), reference)
