"""Peak activation memory, against sums by hand of what is alive."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sensitivity import Study, activation_bytes
from sensitivity.rows import find_rows
from tests.sensitivity.decoders import decoder_study, llama
from tests.sensitivity.studies import make_study, state

FORMATS = ("int4", "fp16", "fp32")


def study_of(
    model: nn.Module, batch: Tensor, loss: Callable[[nn.Module, Tensor], Tensor], *kinds: str
) -> Study:
    layers, others = find_rows(model, kinds or ("weight",))
    plain = make_study(model, [batch], loss, FORMATS)
    return Study(model, plain.batches, loss, layers, plain.formats, 0, plain.progress, others=others)


def first_column(model: nn.Module, batch: Tensor) -> Tensor:
    """Losses that are a view of the output: nothing is allocated for them."""
    outputs: Tensor = model(batch)
    return outputs[:, 0]


def test_a_chain_by_hand() -> None:
    # 5 rows of 4 → 6 → 3 numbers of 4 bytes. While the activation function runs, the batch (which the caller holds),
    # its input and its output are alive; while the second layer runs, its input and its output are.
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    made = activation_bytes(study_of(model, torch.ones(5, 4), first_column)).table
    batch, hidden, output = 5 * 4 * 4, 5 * 6 * 4, 5 * 3 * 4
    assert made.values == (
        (batch / 2 + 2 * hidden, batch / 2 + 2 * hidden, batch + 2 * hidden),
        (hidden / 2 + output, hidden / 2 + output, hidden + output),
    )
    assert (made.combine, made.unit, made.constant) == ("max", "byte", 0)


def test_inputs_that_are_rows_have_the_bytes_of_their_format() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    made = activation_bytes(study_of(model, torch.ones(5, 4), first_column, "weight", "activation")).table
    batch, hidden, output = 5 * 4 * 4, 5 * 6 * 4, 5 * 3 * 4
    assert made.values == (
        (0, 0, 0),
        (0, 0, 0),
        # int4: each of 5 tokens is 4 numbers of half a byte with a scale of 2 bytes
        (5 * (2 + 2) + 2 * hidden, batch / 2 + 2 * hidden, batch + 2 * hidden),
        (5 * (3 + 2) + output, hidden / 2 + output, hidden + output),
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_any_chain_holds_the_input_and_the_output_of_each_layer(rows: int, widths: list[int]) -> None:
    model = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(widths)))
    made = activation_bytes(study_of(model, torch.ones(rows, widths[0]), first_column)).table
    assert made.values == tuple(
        (rows * (2 * inputs + 4 * outputs),) * 2 + (rows * 4 * (inputs + outputs),)
        for inputs, outputs in itertools.pairwise(widths)
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        kept = self.first(inputs)
        outputs: Tensor = self.third(self.second(kept)) + kept
        return outputs


def test_what_a_residual_connection_keeps_counts_with_the_layers_it_passes() -> None:
    made = activation_bytes(study_of(Residual(), torch.ones(2, 4), first_column)).table
    narrow, wide = 2 * 4 * 4, 2 * 8 * 4
    assert [row[2] for row in made.values] == [
        narrow + narrow,  # the batch, and what will be kept
        narrow + wide,  # its input is what is kept
        max(
            narrow + wide + narrow, narrow + narrow + narrow
        ),  # kept, input, output; then kept, output and their sum
    ]
    # At 16 bits the third layer's own input shrinks, what is kept does not.
    assert made.values[2][1] == max(narrow + wide / 2 + narrow, 3 * narrow)


def test_what_comes_before_the_first_row_counts_with_it() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        (batch.repeat(100, 1) * 2).sum()
        return first_column(model, batch)

    made = activation_bytes(study_of(nn.Sequential(nn.Linear(4, 4)), torch.ones(2, 4), loss)).table
    assert made.values == ((2 * 100 * 2 * 4 * 4,) * 3,)


def test_a_slice_is_as_large_as_what_it_shows() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        hidden = batch * 2
        return first_column(model, hidden[:, 0])

    made = activation_bytes(study_of(nn.Sequential(nn.Linear(4, 3)), torch.ones(2, 5, 4), loss)).table
    held, shown, output = 2 * 5 * 4 * 4, 2 * 4 * 4, 2 * 3 * 4
    assert made.values == ((held - shown / 2 + output, held - shown / 2 + output, held + output),)


def test_lookups_have_no_input_to_narrow() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        outputs: Tensor = model(batch)
        return outputs[:, 0, 0]

    batch = torch.zeros(2, 3, dtype=torch.int64)
    made = activation_bytes(study_of(nn.Sequential(nn.Embedding(9, 4)), batch, loss)).table
    assert made.values == ((2 * 3 * 8 + 2 * 3 * 4 * 4,) * 3,)


def test_layers_that_do_not_run_spend_nothing_and_those_that_run_twice_their_worst() -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        model[0](batch[:1])
        outputs: Tensor = model[0](batch)
        return outputs[:, 0]

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    made = activation_bytes(study_of(model, torch.ones(5, 4), loss)).table
    assert made.values == ((5 * 4 * 2 + 5 * 4 * 4,) * 2 + (5 * 4 * 4 * 2,), (0, 0, 0))


def test_the_attention_matrix_of_a_decoder_is_in_it() -> None:
    model = llama(attn_implementation="eager")
    study = decoder_study(model, formats=("fp32",))
    found = dict(zip((row.name for row in study.rows), activation_bytes(study).table.values, strict=True))
    matrix = 3 * 4 * 7 * 7 * 4
    assert found["model.layers.0.self_attn.v_proj"][0] >= 2 * matrix


def fails(*_: object) -> Tensor:
    raise RuntimeError("broke")


def test_the_model_is_as_it_was_also_when_the_loss_raises() -> None:
    model = Residual()
    study = study_of(model, torch.ones(2, 4), first_column)
    before = state(model)
    activation_bytes(study)
    assert state(model) == before
    with pytest.raises(RuntimeError, match="broke"):
        activation_bytes(study_of(model, torch.ones(2, 4), fails))
    assert state(model) == before
