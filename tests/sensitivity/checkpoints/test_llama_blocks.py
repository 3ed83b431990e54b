"""One block in memory at a time, and nothing left behind when something raises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from sensitivity.checkpoints.llama_blocks import Llama, embed, fill, forward, gathering, open_llama, scratch
from tests.sensitivity.llamas import token_batches, write_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama") / "tiny")


@pytest.fixture
def llama(folder: Path) -> Llama:
    return open_llama(folder)


def places(module: nn.Module) -> set[str]:
    return {value.device.type for value in module.parameters()}


def test_an_opened_model_has_no_weights(llama: Llama) -> None:
    assert places(llama.skeleton) == {"meta"}
    assert len(llama.blocks) == 3


def test_hidden_states_are_those_of_the_loaded_model(folder: Path, llama: Llama) -> None:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for batch in token_batches():
        with torch.no_grad():
            (hidden,), counts = embed(llama, [batch])
            expected = model(batch, output_hidden_states=True).hidden_states
            assert torch.equal(hidden, expected[0])
            assert torch.equal(counts, torch.bincount(batch.flatten(), minlength=96))
            block = scratch(llama.blocks[0])
            for index in range(len(llama.blocks) - 1):
                fill(llama, block, f"model.layers.{index}")
                hidden = forward(llama, block, hidden)
                assert torch.equal(hidden, expected[index + 1])


def test_weights_are_read_into_a_copy_in_single_precision_and_the_model_stays_without(llama: Llama) -> None:
    block = scratch(llama.blocks[2])
    before = [weight.data_ptr() for weight in block.parameters()]
    fill(llama, block, "model.layers.2")
    assert [weight.data_ptr() for weight in block.parameters()] == before
    for name, weight in block.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, llama.checkpoint.read(f"model.layers.2.{name}"))
    assert places(llama.skeleton) == {"meta"}


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.last = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.last(self.left(inputs) + self.right(inputs))
        return result


def test_layers_with_the_same_input_share_a_matrix_and_hooks_are_gone() -> None:
    model, batches = Shared(), [torch.randn(2, 5, 4), torch.randn(1, 3, 4)]
    with torch.no_grad():
        with gathering(dict(model.named_children())) as grams:
            for batch in [*batches, batches[0]]:  # the very same tensor again counts again
                model(batch)
        rows = torch.cat([batch.flatten(0, 1) for batch in [*batches, batches[0]]])
        inner = model.left(rows) + model.right(rows)
    assert grams["left"] is grams["right"]
    torch.testing.assert_close(grams["left"], rows.T @ rows)
    torch.testing.assert_close(grams["last"], inner.T @ inner)
    assert not any(module._forward_pre_hooks for module in model.modules())
