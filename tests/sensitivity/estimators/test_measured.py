"""Measured distances against a full forward pass for every entry."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allocator import CostTable, InvalidInputError
from quantize import round_trip
from sensitivity import Study, measured
from tests.sensitivity.decoders import decoder_study, llama, logits_of
from tests.sensitivity.studies import Blocks, make_study, squares, state

BATCHES = [torch.linspace(-1, 1, 20).reshape(5, 4), torch.linspace(2, -1, 12).reshape(3, 4)]


def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made


def distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().sum(1)


measure = partial(measured, name="gap", outputs=outputs, distance=distance, meaning="squared distance")


def slow_samples(study: Study) -> np.ndarray:
    """(L, F, N): the whole model again for each entry."""
    samples = []
    with torch.no_grad():
        reference = [study.model(batch) for batch in study.batches]
        for layer in study.layers:
            original = layer.weight.clone()
            for fmt in study.formats:
                layer.weight.copy_(torch.from_numpy(round_trip(original.numpy(), fmt)))
                gaps = [
                    distance(before, study.model(batch)).double()
                    for before, batch in zip(reference, study.batches, strict=True)
                ]
                samples.append(torch.cat(gaps).numpy())
                layer.weight.copy_(original)
    return np.array(samples).reshape(len(study.layers), len(study.formats), -1)


def study_of(model: nn.Module, **options: Any) -> Study:
    return make_study(model, BATCHES, squares, **options)


def check(made: CostTable, study: Study) -> None:
    """Bit for bit: reuse must not change a number."""
    samples = slow_samples(study)
    assert np.array_equal(made.values, samples.mean(axis=2))
    np.testing.assert_allclose(
        made.stderr, samples.std(axis=2, ddof=1) / np.sqrt(samples.shape[2]), rtol=1e-12
    )
    assert (samples[..., 0].sum(axis=1) > 0).all()


def test_distances_are_those_of_a_full_forward_pass_bit_for_bit() -> None:
    study = study_of(Blocks())
    check(measure(study), study)


def test_a_model_without_blocks_is_measured_too() -> None:
    torch.manual_seed(0)
    study = study_of(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))
    check(measure(study), study)


def test_blocks_before_the_changed_one_do_not_run_again() -> None:
    model = Blocks()
    calls: Counter[int] = Counter()
    for index, block in enumerate(model.blocks):
        # On the Linear inside, because a block that answers from memory still sees its own hooks.
        block[0].register_forward_hook(lambda *_, index=index: calls.update([index]))
    study = study_of(model, formats=["int2", "int8"])
    measure(study)
    entries, batches = len(study.formats), len(BATCHES)
    # A block runs for the reference, once to be kept, and for each change in itself and in what comes before it. What
    # is asked of a block that answers from memory is seen by the hook too, but not inside the block.
    assert calls == {index: batches * (2 + (2 + index) * entries) for index in range(3)}


def test_blocks_that_run_in_another_order_than_they_are_listed() -> None:
    study = study_of(Blocks(order=(2, 1, 0)))
    check(measure(study), study)


def test_blocks_that_run_more_than_once() -> None:
    study = study_of(Blocks(order=(0, 1, 2, 0, 1, 2)))
    check(measure(study), study)


def test_a_weight_that_is_shared_between_blocks_counts_from_the_first_on() -> None:
    model = Blocks()
    model.blocks[2][0].weight = model.blocks[0][0].weight
    study = study_of(model)
    assert [layer.name for layer in study.layers] == ["stem", "blocks.0.0", "blocks.1.0", "head"]
    check(measure(study), study)


def test_a_format_that_changes_nothing_has_no_distance() -> None:
    made = measure(study_of(Blocks(), formats=["fp32"]))
    assert made.values == ((0.0,),) * 5
    assert made.stderr == ((0.0,),) * 5


def test_other_data_can_be_measured_on() -> None:
    other = [torch.full((2, 4), 0.5)]
    study = study_of(Blocks())
    elsewhere = make_study(study.model, other, squares)
    assert measure(study, batches=other) == measure(elsewhere)
    assert measure(study, batches=other) != measure(study)


def test_a_single_sample_has_no_standard_error() -> None:
    assert measure(study_of(Blocks()), batches=[BATCHES[0][:1]]).stderr is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_distance_that_is_not_finite_is_refused_with_layer_and_format(bad: float) -> None:
    study = study_of(Blocks(), formats=["int8", "int2"])
    calls = itertools.count()
    # Two batches for the originals and each of int8 and int2 in stem and int8 in the first block come before.
    wanted = 8

    def breaks(first: Tensor, second: Tensor) -> Tensor:
        gap = distance(first, second)
        return torch.where(torch.arange(len(gap)) == 1, bad, gap) if next(calls) == wanted else gap

    before = state(study.model)
    detail = r"/batches: layer 'blocks\.0\.0' in format 'int2' gives a distance that is not finite"
    with pytest.raises(InvalidInputError, match=detail):
        measured(study, name="gap", outputs=outputs, distance=breaks, meaning="")
    assert state(study.model) == before


def test_a_model_that_gives_nan_by_itself_is_refused_by_batch() -> None:
    study = make_study(Blocks(), [BATCHES[0], BATCHES[1] * torch.nan], squares)
    with pytest.raises(
        InvalidInputError, match=r"/batches: the original model already gives NaN .* on batch 1"
    ):
        measure(study)


def test_a_distance_that_is_one_number_for_the_batch_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="distance"):
        measured(
            study_of(Blocks()),
            name="gap",
            outputs=outputs,
            distance=lambda *pair: distance(*pair).mean(),
            meaning="",
        )


@pytest.mark.parametrize("together", [2, 3, 4, 9])
def test_formats_that_go_through_together_give_the_numbers_of_those_that_do_not(together: int) -> None:
    study = study_of(Blocks())
    before = state(study.model)
    made, alone = measure(study, together=together), measure(study)
    np.testing.assert_allclose(made.values, alone.values, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(made.stderr, alone.stderr, rtol=1e-4, atol=1e-9)
    assert state(study.model) == before


def test_tied_weights_change_together_also_when_formats_do() -> None:
    model = Blocks()
    model.blocks[2][0].weight = model.blocks[0][0].weight
    study = study_of(model)
    np.testing.assert_allclose(measure(study, together=4).values, measure(study).values, rtol=1e-4, atol=1e-9)


def test_a_pass_serves_as_many_formats_as_go_through_together() -> None:
    model, calls = Blocks(), list[int]()
    model.head.register_forward_hook(lambda *call: calls.append(call[2].dim()))
    study = study_of(model, formats=["int2", "int3", "int4", "int5", "int8"])
    measure(study, together=3)
    # Two batches: one pass for the reference; for each layer but the head one pass with 3 formats and one with 2.
    assert len(calls) == 2 * (1 + 2 * 5)


def test_rows_that_are_no_layers_are_measured_one_at_a_time() -> None:
    study = decoder_study(llama(), "weight", "activation", "kv_cache", formats=("int2", "int4-g8"))
    made = measured(
        study, name="gap", outputs=logits_of, distance=rows_apart, meaning="squared distance", together=2
    )
    alone = measured(study, name="gap", outputs=logits_of, distance=rows_apart, meaning="squared distance")
    count = len(study.layers)
    assert made.values[count:] == alone.values[count:]
    np.testing.assert_allclose(made.values[:count], alone.values[:count], rtol=1e-3)


def rows_apart(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().flatten(1).sum(1)


def test_no_formats_at_once_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="/together: expected at least 1 format at once, got 0"):
        measure(study_of(Blocks()), together=0)


def failing_after(calls: int) -> Callable[[Tensor, Tensor], Tensor]:
    left = iter(range(calls))

    def fails(first: Tensor, second: Tensor) -> Tensor:
        if next(left, None) is None:
            raise RuntimeError("broke")
        return distance(first, second)

    return fails


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("calls", [0, 3, 11, 27])
def test_weights_are_back_bit_for_bit_when_the_distance_raises(calls: int, together: int) -> None:
    study = study_of(Blocks())
    before = state(study.model)
    with pytest.raises(RuntimeError, match="broke"):
        measured(
            study,
            name="gap",
            outputs=outputs,
            distance=failing_after(calls),
            meaning="",
            together=together,
        )
    assert state(study.model) == before


def test_the_model_is_as_it_was_afterwards_and_can_still_be_trained() -> None:
    study = study_of(Blocks())
    before = state(study.model)
    measure(study)
    assert state(study.model) == before
    squares(study.model, BATCHES[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in study.model.parameters())


def test_progress_is_told_after_every_entry() -> None:
    told: list[tuple[str, int, int]] = []
    measure(study_of(Blocks(), formats=["int2", "int8"], progress=lambda *step: told.append(step)))
    assert told == [("gap", done, 10) for done in range(1, 11)]


def test_the_table_says_what_it_is() -> None:
    made = measure(study_of(Blocks()))
    assert made.meaning == "squared distance; measured, one layer quantized at a time"
    assert made.better == "lower"
    assert np.array(made.values).shape == (5, 4)
