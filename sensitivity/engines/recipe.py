"""A recipe: how to load model, data and loss, so that any process can do it for itself.

Models do not travel. A worker loads its own copy, once, and makes sure that it is the one that was meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from allocator import Fault, InvalidInputError
from sensitivity.study.calibration import Batch, LossFunction, collect, digest


@dataclass(frozen=True)
class Recipe:
    """How to load what is profiled.

    Attributes:
        load: ``package.module:function``, importable wherever the work runs; returns (model, batches, loss_fn), and
            must return the same wherever and whenever it is called: seed what is random, read files from a path that
            every machine has.
        arguments: JSON values for the function, by name.
        threads: Threads that torch computes with, here and in every worker. Sums depend on it in their last bits, so
            that a profile is bit for bit the same on any number of workers only with the same number of threads.
    """

    load: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1


class Loaded(NamedTuple):
    """What a recipe gives.

    Attributes:
        model: The model.
        batches: Calibration batches.
        loss_fn: (model, batch) → (B,) losses.
    """

    model: nn.Module
    batches: tuple[Batch, ...]
    loss_fn: LossFunction


def text_of(recipe: Recipe) -> str:
    """Write a recipe as text that names it and that it can be read from.

    Returns:
        JSON with sorted keys.

    Raises:
        InvalidInputError: It cannot be written as JSON, or a part of it is not what it should be.

    Example:
        >>> text_of(Recipe("builtins:print", {"sep": "-"}))
        '{"arguments": {"sep": "-"}, "load": "builtins:print", "threads": 1}'
    """
    module, _, function = recipe.load.partition(":")
    if not module or not function:
        detail = f"expected 'package.module:function', got {recipe.load!r}"
        raise InvalidInputError(Fault("/recipe/load", detail))
    if recipe.threads < 1:
        raise InvalidInputError(Fault("/recipe/threads", f"expected at least 1, got {recipe.threads}"))
    try:
        return json.dumps(
            {"load": recipe.load, "arguments": dict(recipe.arguments), "threads": recipe.threads},
            sort_keys=True,
        )
    except (TypeError, ValueError) as error:
        detail = f"expected JSON values, which reach every machine: {error}"
        raise InvalidInputError(Fault("/recipe/arguments", detail)) from error


def load(recipe: Recipe) -> Loaded:
    """Follow a recipe.

    Returns:
        Model, batches and loss.

    Raises:
        InvalidInputError: The function cannot be imported, or returns something else.
    """
    text_of(recipe)
    module, _, name = recipe.load.partition(":")
    try:
        function = cast(Callable[..., object], getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        detail = f"cannot import {recipe.load!r}: {error}; it must be importable wherever the work runs"
        raise InvalidInputError(Fault("/recipe/load", detail)) from error
    with threads(recipe.threads):
        made = function(**recipe.arguments)
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[0], nn.Module):
        detail = f"expected {recipe.load!r} to return (model, batches, loss_fn), got a {type(made).__name__}"
        raise InvalidInputError(Fault("/recipe/load", detail))
    return Loaded(made[0], collect(cast(Iterable[Batch], made[1])), cast(LossFunction, made[2]))


@lru_cache(maxsize=1)
def loaded_once(text: str) -> tuple[Loaded, str]:
    """Follow a recipe once per process; for workers.

    Args:
        text: From :func:`text_of`.

    Returns:
        What it gives, the model in evaluation mode, and :func:`digest_of` it.
    """
    made = load(Recipe(**json.loads(text)))
    made.model.eval()
    return made, digest_of(made)


def digest_of(loaded: Loaded) -> str:
    """SHA-256 over parameters, buffers and data.

    Args:
        loaded: Model and data.

    Returns:
        64 hexadecimal digits.
    """
    return digest([dict(loaded.model.state_dict()), loaded.batches])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with a number of threads for a while.

    Yields:
        Nothing; the number is what it was at the end.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
