"""How commands measure plans: of a sentence encoder by its embeddings, of a language model by its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from allocator import Fault, InvalidInputError
from allocator.contract.errors import require
from api.cli.calibration import language_folder, read_pairs, read_text
from api.cli.timing import timed

if TYPE_CHECKING:
    from quantize.feedback import Measurement

Count: TypeAlias = Annotated[int, typer.Option(help="Pairs, or windows of --text, to measure on.", min=2)]
Force: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace what exists under the name of --out.")
]
_PAIRS_PER_BATCH = 16


@contextmanager
def plan_measure(
    model: Path | None,
    pairs: Path | None,
    text: Path | None,
    count: int,
    length: int,
    beside: Mapping[str, str] | None = None,
) -> Iterator[Callable[[Mapping[str, str]], Measurement | float]]:
    """Make the function that measures plans.

    Args:
        model: Folder of the model; all-MiniLM-L6-v2 when absent.
        pairs: File of pairs, for an encoder; docstrings of the standard library when absent.
        text: File of text, for a language model.
        count: Pairs, or windows of text, to measure on.
        length: Tokens of a window.
        beside: A plan to time others beside, on ONNX Runtime; nothing is timed when absent.

    Yields:
        Plan → mean distance to the original: 1 - cosine of embeddings, or the KL divergence of the next token, nats.

    Raises:
        InvalidInputError: A language model is to be timed.
    """
    require("torch", "models")
    if text is None:
        with _encoder(model, pairs, count, beside) as measure:
            yield measure
        return
    if beside is not None:
        detail = (
            "times sentence encoders only; for a language model, give latencies to quantize.feedback.refine"
        )
        raise InvalidInputError(Fault("--runtime", detail))
    yield _language(language_folder(model, pairs), text, count, length)


@contextmanager
def _encoder(
    model: Path | None, pairs: Path | None, count: int, beside: Mapping[str, str] | None
) -> Iterator[Callable[[Mapping[str, str]], Measurement | float]]:
    from sensitivity.models.docstrings import docstring_pairs
    from sensitivity.models.text_encoder import cosine_distance, encode, load_text_encoder, pair_batches
    from sensitivity.plans.planned import distance_of_plans

    data = docstring_pairs(count) if pairs is None else read_pairs(pairs)[:count]
    encoder, tokenizer = load_text_encoder(model)
    batches = pair_batches(tokenizer, data, _PAIRS_PER_BATCH)
    loss = distance_of_plans(encoder, batches, encode, cosine_distance)
    if beside is None:
        yield loss
        return
    with timed(loss, encoder, tokenizer, [document for _, document in data], beside) as measure:
        yield measure


def _language(folder: Path, text: Path, count: int, length: int) -> Callable[[Mapping[str, str]], float]:
    from sensitivity.curvature.output_metrics import find_metric
    from sensitivity.models.language_model import load_language_model, logits, windows
    from sensitivity.plans.planned import distance_of_plans

    corpus = read_text(text)
    model, tokenizer = load_language_model(folder)
    batches = windows(tokenizer, corpus, length, count)
    return distance_of_plans(model, batches, logits, find_metric("softmax_kl").distance)
