"""Recipes are followed the same everywhere, or refused."""

from __future__ import annotations

import pytest
import torch

from allocator import InvalidInputError
from sensitivity.engines.recipe import Recipe, digest_of, load, loaded_once, text_of, threads
from tests.sensitivity.recipes import BLOCKS
from tests.sensitivity.resumed import BATCHES
from tests.sensitivity.studies import Blocks, squares, state


def test_a_recipe_gives_model_batches_and_loss() -> None:
    loaded = load(Recipe(BLOCKS.load, {"order": [2, 0, 1]}))
    assert isinstance(loaded.model, Blocks)
    assert loaded.model.order == (2, 0, 1)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(loaded.batches, BATCHES, strict=True))
    assert loaded.loss_fn is squares
    assert state(loaded.model)[0] == state(Blocks())[0]


def test_a_worker_loads_once_and_evaluates() -> None:
    first, digest = loaded_once(text_of(BLOCKS))
    assert loaded_once(text_of(Recipe(BLOCKS.load, dict(BLOCKS.arguments))))[0] is first
    assert not first.model.training
    assert digest == digest_of(load(BLOCKS))


def test_the_digest_is_that_of_model_and_data() -> None:
    loaded = load(BLOCKS)
    digest = digest_of(loaded)
    assert digest_of(loaded._replace(batches=loaded.batches[:1])) != digest
    with torch.no_grad():
        loaded.model.get_parameter("head.bias")[0] += 1e-6
    assert digest_of(loaded) != digest


def test_the_function_runs_with_the_recipes_threads() -> None:
    count = torch.get_num_threads() + 1
    assert load(Recipe("tests.sensitivity.recipes:threaded", threads=count)).batches == (count,)
    with pytest.raises(ZeroDivisionError), threads(count):
        raise ZeroDivisionError
    assert torch.get_num_threads() == count - 1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("blocks"), r"^/recipe/load: expected 'package.module:function', got 'blocks'$"),
        (Recipe(":blocks"), r"^/recipe/load: expected 'package.module:function', got ':blocks'$"),
        (Recipe(BLOCKS.load, threads=0), r"^/recipe/threads: expected at least 1, got 0$"),
        (Recipe(BLOCKS.load, {"order": {1}}), r"^/recipe/arguments: expected JSON values, .*set"),
        (
            Recipe("nowhere:blocks"),
            r"^/recipe/load: cannot import 'nowhere:blocks': No module named 'nowhere'",
        ),
        (
            Recipe("math:blocks"),
            r"^/recipe/load: cannot import 'math:blocks': module 'math' has no attribute",
        ),
        (
            Recipe("tests.sensitivity.recipes:nothing"),
            r"^/recipe/load: expected .* to return \(model, batches, loss_fn\), got a str$",
        ),
        (
            Recipe("tests.sensitivity.recipes:without_data"),
            r"^/batches: expected at least one calibration batch",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load(recipe)
