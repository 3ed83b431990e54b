"""Profiles of sentence encoders: a small one with every table, the real one with the cheapest part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from allocator import InvalidInputError, Profile
from sensitivity import discover
from sensitivity.models.text_encoder import TextEncoder, Tokenizer
from sensitivity.profiling.encoder_profile import DEFAULT_TABLES, EXCLUDED, profile_encoder
from tests.sensitivity.studies import state

Pairs = list[tuple[str, str]]
FORMATS = ["int2-g16", "int8-g16"]


@pytest.fixture
def small() -> TextEncoder:
    torch.manual_seed(0)
    # With the usual small weights, all texts of an untrained encoder look the same.
    config = transformers.BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    return TextEncoder(transformers.BertModel(config, add_pooling_layer=False)).eval()


def test_every_table_is_filled(small: TextEncoder, tokenizer: Tokenizer, pairs: Pairs) -> None:
    before = state(small)
    told: list[tuple[str, int, int]] = []
    profile = profile_encoder(
        small,
        tokenizer,
        pairs,
        formats=FORMATS,
        probes=2,
        measured_pairs=3,
        name="small",
        progress=lambda *step: told.append(step),
    )
    assert tuple(profile.costs) == DEFAULT_TABLES
    # Two probes, one batch of eight pairs, and 13 layers in two formats.
    assert [step for step in told if step[1] == step[2]] == [
        ("hessian_trace squared_error", 2, 2),
        ("fisher", 1, 1),
        ("embedding_distance", 26, 26),
    ]
    assert profile.model == "small"
    assert len(profile.layers) == 1 + 2 * 6
    assert not any("position" in layer.name or "token_type" in layer.name for layer in profile.layers)
    for table in profile.costs.values():
        assert np.array(table.values).shape == (13, 2)
    assert (np.array(profile.costs["gauss_newton_trace"].values) >= 0).all()
    assert profile.costs["embedding_distance"].tolerable == 0.5
    for table in ("gauss_newton_trace", "fisher", "embedding_distance"):
        coarse, fine = np.array(profile.costs[table].values).T
        assert (coarse > fine).all()
        assert (fine > 0).all()
    assert state(small) == before


def test_the_same_pairs_give_the_same_profile(small: TextEncoder, tokenizer: Tokenizer, pairs: Pairs) -> None:
    def profiled(seed: int) -> Profile:
        tables = ("hessian_trace", "fisher")
        return profile_encoder(small, tokenizer, pairs, formats=FORMATS, tables=tables, probes=1, seed=seed)

    assert profiled(3).digest() == profiled(3).digest()
    assert profiled(3).digest() != profiled(4).digest()


def test_lookups_of_positions_are_excluded_only_where_they_exist(tokenizer: Tokenizer, pairs: Pairs) -> None:
    # DistilBERT has no token types, and a pattern that matches nothing is refused elsewhere.
    config = transformers.DistilBertConfig(dim=16, hidden_dim=32, n_layers=1, n_heads=2, vocab_size=30522)
    torch.manual_seed(0)
    encoder = TextEncoder(transformers.DistilBertModel(config)).eval()
    profile = profile_encoder(encoder, tokenizer, pairs[:2], formats=["int8"], tables=["fisher"])
    kept = [layer.name for layer in discover(encoder, EXCLUDED[:1])]
    assert [layer.name for layer in profile.layers] == kept


def test_the_real_encoder_can_be_measured(encoder: TextEncoder, tokenizer: Tokenizer, pairs: Pairs) -> None:
    before = state(encoder)
    profile = profile_encoder(
        encoder, tokenizer, pairs[:2], formats=["int2-g64"], tables=["embedding_distance"], measured_pairs=2
    )
    assert len(profile.layers) == 1 + 6 * 6
    values = np.array(profile.costs["embedding_distance"].values)
    assert (values > 0).all()
    # No single layer in two bits turns the embeddings of this encoder around.
    assert (values < 1).all()
    assert state(encoder) == before


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pairs_are_refused(
    small: TextEncoder, tokenizer: Tokenizer, pairs: Pairs, count: int
) -> None:
    detail = rf"/pairs: expected at least 2 \(query, document\) pairs, got {count}"
    with pytest.raises(InvalidInputError, match=detail):
        profile_encoder(small, tokenizer, pairs[:count], formats=FORMATS)


def test_unknown_tables_are_refused(small: TextEncoder, tokenizer: Tokenizer, pairs: Pairs) -> None:
    with pytest.raises(InvalidInputError, match="/tables: unknown table 'fischer'; did you mean 'fisher'"):
        profile_encoder(small, tokenizer, pairs, formats=FORMATS, tables=["hessian_trace", "fischer"])


def test_measuring_on_no_pairs_is_refused(small: TextEncoder, tokenizer: Tokenizer, pairs: Pairs) -> None:
    with pytest.raises(InvalidInputError, match="measured_pairs"):
        profile_encoder(small, tokenizer, pairs, formats=FORMATS, measured_pairs=0)


def test_measured_pairs_are_spread_over_all_lengths(small: TextEncoder, tokenizer: Tokenizer) -> None:
    words = [1, 2, 3, 4, 5, 6, 40]
    lengths = [("A query of its own.", "word " * count) for count in words]

    def distances(given: Pairs, measured: int) -> np.ndarray:
        profile = profile_encoder(
            small,
            tokenizer,
            given,
            formats=["int2-g16"],
            tables=["embedding_distance"],
            measured_pairs=measured,
        )
        return np.array(profile.costs["embedding_distance"].values)

    shortest = distances(lengths[:4], 4)
    assert not np.array_equal(distances(lengths, 4), shortest)


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.mark.parametrize(
    ("kind", "options", "left"),
    [
        ("MPNet", {}, ["encoder.relative_attention_bias"]),
        (
            "DebertaV2",
            {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
            ["pos_key_proj", "pos_query_proj", "rel_embeddings"],
        ),
        (
            "Deberta",
            {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
            ["pos_proj", "pos_q_proj", "rel_embeddings"],
        ),
    ],
)
def test_what_is_computed_of_distances_has_no_row(
    tokenizer: Tokenizer, pairs: Pairs, kind: str, options: dict[str, object], left: list[str]
) -> None:
    """It is the same for all texts, and per-sample gradients refused the whole model for it."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=30522, max_position_embeddings=64, **SMALL, **options
    )
    encoder = TextEncoder(getattr(transformers, f"{kind}Model")(config)).eval()
    short = [(query, document[:60]) for query, document in pairs[:2]]
    profile = profile_encoder(encoder, tokenizer, short, formats=["int8"], tables=["fisher"])
    outside = [item.name for item in profile.outside if any(f"{name}.weight" in item.name for name in left)]
    assert len(outside) == len(left)
    assert not [layer.name for layer in profile.layers if layer.name.endswith(tuple(left))]


def test_a_checkpoint_that_is_written_whole_counts_what_does_not_encode(
    tokenizer: Tokenizer, pairs: Pairs, tmp_path: Path
) -> None:
    """The pooler is in the file, and was missing in the promised bytes."""
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**SMALL, max_position_embeddings=64))
    model.save_pretrained(tmp_path)
    encoder = TextEncoder(transformers.BertModel.from_pretrained(tmp_path, add_pooling_layer=False)).eval()
    sizes = {}
    for checkpoint in (None, tmp_path):
        profile = profile_encoder(
            encoder, tokenizer, pairs[:2], formats=["int8"], tables=["fisher"], checkpoint=checkpoint
        )
        sizes[checkpoint] = profile.resources["weight_bytes"].constant
    assert sizes[tmp_path] - sizes[None] == 4 * (16 * 16 + 16)
