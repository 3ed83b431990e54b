"""A packed stage holds names rather than weights, and is unpacked onto the worker's own model."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from allocator.knapsack.problem import FloatArray
from sensitivity import Study, discover
from sensitivity.engines.pickling import compute, pack
from sensitivity.engines.recipe import Recipe, load, loaded_once, text_of
from sensitivity.study.study import replaced
from sensitivity.study.tasks import Key
from tests.sensitivity.recipes import BLOCKS
from tests.sensitivity.studies import make_study

WIDE = Recipe("tests.sensitivity.recipes:wide")


def study_of(recipe: Recipe) -> Study:
    loaded = load(recipe)
    return make_study(loaded.model, loaded.batches, loaded.loss_fn)


def identities(study: Study, key: Key, *, given: list[object]) -> FloatArray:
    """Whether what arrived are the parts of this process's own model."""
    mine, _ = loaded_once(key[0])
    layers = discover(mine.model)
    assert study.batches is mine.batches
    assert study.loss_fn is mine.loss_fn
    assert [layer.weight for layer in study.layers] == [layer.weight for layer in layers]
    assert all(one.modules == other.modules for one, other in zip(study.layers, layers, strict=True))
    assert given[0] is mine.model
    assert given[1] is mine.batches[0]
    assert given[2] is mine.model.get_buffer("1.running_mean")
    return np.array([study.seed, id(study.model) == id(mine.model)])


def test_everything_of_the_recipe_arrives_as_the_workers_own() -> None:
    study = study_of(WIDE)
    given = [study.model, study.batches[0], study.model.get_buffer("1.running_mean")]
    packed = pack(WIDE, study, partial(identities, given=given))
    assert len(packed.body) < 5000  # the model has a million weights
    answer = compute(packed, (text_of(WIDE),))
    assert isinstance(answer, np.ndarray), answer
    assert answer.tolist() == [0, 1]


def broken(study: Study, key: Key) -> FloatArray:
    layer = study.layers[int(key[0])]
    with replaced(layer, torch.full_like(layer.weight, float("nan"))):
        raise ZeroDivisionError(layer.name)


def test_what_a_piece_raises_is_returned() -> None:
    answer = compute(pack(BLOCKS, study_of(BLOCKS), broken), ("4",))
    assert isinstance(answer, ZeroDivisionError)
    assert answer.args == ("head",)
    assert not torch.isnan(loaded_once(text_of(BLOCKS))[0].model.get_parameter("head.weight")).any()


def test_another_model_than_the_recipe_gives_is_refused_by_the_worker() -> None:
    study = study_of(BLOCKS)
    with torch.no_grad():
        nn.init.zeros_(study.model.get_parameter("head.bias"))
    answer = compute(pack(BLOCKS, study, broken), ("0",))
    assert isinstance(answer, InvalidInputError)
    assert str(answer).startswith("/recipe: gives another model or other data in a worker than here")


def test_what_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"^/estimators: cannot be sent to other processes: .*generator"
    ):
        pack(BLOCKS, study_of(BLOCKS), partial(broken, (item for item in ())))
