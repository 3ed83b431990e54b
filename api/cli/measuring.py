"""What commands measure plans of a sentence encoder with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from allocator.errors import require
from api.cli.profile import read_pairs

ModelFolder: TypeAlias = Annotated[
    Path | None, typer.Option(help="Folder of the transformers encoder; all-MiniLM-L6-v2 when absent.")
]
Pairs: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help='JSON lines of `{"query": …, "document": …}`; docstrings of the standard library when absent.'
    ),
]
Count: TypeAlias = Annotated[int, typer.Option(help="Number of pairs to measure on.", min=2)]
Force: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace what exists under the name of --out.")
]
_PAIRS_PER_BATCH = 16


def encoder_measure(
    model: Path | None, pairs: Path | None, count: int
) -> Callable[[Mapping[str, str]], float]:
    """Make the function that measures plans of an encoder: mean embedding distance to the original.

    Args:
        model: Folder of the encoder; all-MiniLM-L6-v2 when absent.
        pairs: File of pairs; docstrings of the standard library when absent.
        count: Pairs to measure on.

    Returns:
        Plan → mean of 1 - cosine.
    """
    require("torch", "models")
    from sensitivity.docstrings import docstring_pairs
    from sensitivity.planned import distance_of_plans
    from sensitivity.text_encoder import cosine_distance, encode, load_text_encoder, pair_batches

    data = docstring_pairs(count) if pairs is None else read_pairs(pairs)[:count]
    encoder, tokenizer = load_text_encoder(model)
    return distance_of_plans(
        encoder, pair_batches(tokenizer, data, _PAIRS_PER_BATCH), encode, cosine_distance
    )
