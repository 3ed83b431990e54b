"""The profile of a sentence encoder: contrastive loss for the curvature tables, embeddings for the measured one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from allocator import Fault, InvalidInputError, Profile
from allocator.knapsack.tables import WEIGHT_BYTES
from quantize import NEAREST, Rounding
from sensitivity.estimators.measured import measured
from sensitivity.pretrained.text_encoder import (
    TextEncoder,
    Tokenizer,
    cosine_distance,
    encode,
    info_nce,
    pair_batches,
)
from sensitivity.profiling.model_kind import ModelKind, profile_kind
from sensitivity.study.study import Estimator, Progress, silent
from sensitivity.study.tasks import Engine, serial

#: Tables an encoder can have, in the order of their cost.
TABLES = ("gauss_newton_trace", "fisher", "hessian_trace", "embedding_distance")
#: Those that are filled when nothing is said, without traces of the Hessian: many are negative away from a minimum.
DEFAULT_TABLES = ("gauss_newton_trace", "fisher", "embedding_distance")
#: Summed distance from which on embeddings are of no use: half the way to embeddings that have nothing in common.
_TOLERABLE = 0.5
#: Lookups by position and segment: under one percent of the weights, and exporters slice rather than gather them.
EXCLUDED = ("*.position_embeddings", "*.token_type_embeddings")
#: What MPNet, T5 and DeBERTa compute of distances between positions: the same for all texts, so no loss is its own.
BY_DISTANCE = (
    "*.relative_attention_bias", "*.rel_embeddings", "*.distance_embedding", "*.pos_proj", "*.pos_q_proj",
    "*.pos_key_proj", "*.pos_query_proj",
)  # fmt: skip
_PAIRS_PER_BATCH = 16


def profile_encoder(
    encoder: TextEncoder,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    formats: Sequence[str],
    tables: Sequence[str] = DEFAULT_TABLES,
    resources: Sequence[str] = (WEIGHT_BYTES,),
    runtime: str | None = None,
    rounding: Rounding = NEAREST,
    name: str = "",
    probes: int = 8,
    measured_pairs: int = 24,
    seed: int = 0,
    progress: Progress = silent,
    engine: Engine = serial,
    checkpoint: Path | None = None,
) -> Profile:
    """Profile a sentence encoder on (query, document) pairs.

    Args:
        tables: Which of :data:`TABLES` to fill; :data:`DEFAULT_TABLES` when absent.
        resources: Names of ``sensitivity.resources.RESOURCES``.
        runtime: Who is to load the plan; see :func:`~sensitivity.profiling.profile_model.profile_model`.
        measured_pairs: Pairs to embed for each entry of ``embedding_distance``, spread over all lengths.
        engine: Computes the entries of ``embedding_distance``.
        checkpoint: Folder that is to be written quantized as a whole, with the pooler and heads that do not encode:
            bytes outside the plan are those of its files. An ONNX file has none of them.

    Returns:
        The profile.

    Raises:
        InvalidInputError: A table is unknown, there are fewer than two pairs, or none to measure on.
    """
    if len(pairs) < 2:
        raise InvalidInputError(
            Fault("/pairs", f"expected at least 2 (query, document) pairs, got {len(pairs)}")
        )
    if measured_pairs < 1:
        raise InvalidInputError(Fault("/measured_pairs", f"expected at least 1, got {measured_pairs}"))
    kind = ModelKind(
        info_nce,
        encode,
        "squared_error",
        {"embedding_distance": _distance(tokenizer, _spread(pairs, measured_pairs))},
    )
    return profile_kind(
        kind,
        encoder,
        pair_batches(tokenizer, pairs, _PAIRS_PER_BATCH),
        formats,
        tables,
        probes,
        name=name,
        exclude=[pattern for pattern in (*EXCLUDED, *BY_DISTANCE) if _matches(encoder, pattern)],
        resources=resources,
        runtime=runtime,
        rounding=rounding,
        seed=seed,
        progress=progress,
        engine=engine,
        checkpoint=checkpoint,
    )


def _distance(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> Estimator:
    return partial(
        measured,
        name="embedding_distance",
        outputs=encode,
        distance=cosine_distance,
        meaning="1 - cosine between the original's and the changed model's embedding, mean over texts",
        tolerable=_TOLERABLE,
        batches=pair_batches(tokenizer, pairs, _PAIRS_PER_BATCH),
    )


def _matches(encoder: TextEncoder, pattern: str) -> bool:
    return any(name.endswith(pattern.lstrip("*")) for name, _ in encoder.named_modules())


def _spread(pairs: Sequence[tuple[str, str]], count: int) -> Sequence[tuple[str, str]]:
    by_length = sorted(pairs, key=lambda pair: len(pair[1]))
    count = min(count, len(by_length))
    return [by_length[(2 * index + 1) * len(by_length) // (2 * count)] for index in range(count)]
