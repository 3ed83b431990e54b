"""How commands measure plans: of a sentence encoder by its embeddings, of a language model by its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from allocator import Fault, InvalidInputError, Profile
from allocator.contract.errors import require
from api.cli.calibration import encoder_folder, language_folder, read_pairs, read_text
from api.cli.coverage import say_not_compared
from api.cli.timing import timed

if TYPE_CHECKING:
    from torch import nn

    from quantize.feedback import Measurement

Count: TypeAlias = Annotated[int, typer.Option(help="Pairs, or windows of --text, to measure on.", min=2)]
_PAIRS_PER_BATCH = 16


@contextmanager
def plan_measure(
    model: Path | None,
    pairs: Path | None,
    text: Path | None,
    count: int,
    length: int,
    beside: Mapping[str, str] | None = None,
    *,
    profile: Profile,
    other_model: bool = False,
) -> Iterator[Callable[[Mapping[str, str]], Measurement | float]]:
    """Make the function that measures plans.

    Args:
        model: Folder of the model.
        pairs: File of pairs, for an encoder; docstrings of the standard library when absent.
        text: File of text, for a language model.
        count: Pairs, or windows of text, to measure on.
        length: Tokens of a window.
        beside: A plan to time others beside, on ONNX Runtime; nothing is timed when absent.
        profile: The profile; the model has to be the one that it was made of.
        other_model: Whether any other model will do.

    Yields:
        Plan → mean distance to the original: 1 - cosine of embeddings, or the KL divergence of the next token, nats.

    Raises:
        InvalidInputError: A language model is to be timed, there is no model, or it is another one than was profiled.
    """
    require("torch", "models")
    known = None if other_model else profile
    if text is None:
        with _encoder(encoder_folder(model), pairs, count, beside, known) as measure:
            yield measure
        return
    if beside is not None:
        detail = (
            "times sentence encoders only; for a language model, give latencies to quantize.feedback.refine"
        )
        raise InvalidInputError(Fault("--runtime", detail))
    yield _language(language_folder(model, pairs), text, count, length, known)


def _require(model: nn.Module, profile: Profile | None) -> None:
    from sensitivity.models.identity import require_profiled

    if profile is not None and not require_profiled(model, profile):
        say_not_compared("the profile")


@contextmanager
def _encoder(
    model: Path,
    pairs: Path | None,
    count: int,
    beside: Mapping[str, str] | None,
    profile: Profile | None,
) -> Iterator[Callable[[Mapping[str, str]], Measurement | float]]:
    from sensitivity.models.docstrings import docstring_pairs
    from sensitivity.models.text_encoder import cosine_distance, encode, load_text_encoder, pair_batches
    from sensitivity.plans.planned import distance_of_plans

    data = docstring_pairs(count) if pairs is None else read_pairs(pairs)[:count]
    encoder, tokenizer = load_text_encoder(model)
    _require(encoder, profile)
    batches = pair_batches(tokenizer, data, _PAIRS_PER_BATCH)
    loss = distance_of_plans(encoder, batches, encode, cosine_distance)
    if beside is None:
        yield loss
        return
    with timed(loss, encoder, tokenizer, [document for _, document in data], beside) as measure:
        yield measure


def _language(
    folder: Path, text: Path, count: int, length: int, profile: Profile | None
) -> Callable[[Mapping[str, str]], float]:
    from sensitivity.curvature.output_metrics import METRICS
    from sensitivity.models.language_model import load_language_model, logits, windows
    from sensitivity.plans.planned import distance_of_plans

    corpus = read_text(text)
    model, tokenizer = load_language_model(folder)
    _require(model, profile)
    batches = windows(tokenizer, corpus, length, count)
    return distance_of_plans(model, batches, logits, METRICS["softmax_kl"].distance)
