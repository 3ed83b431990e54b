"""Profiles of language models: every table, in the order in which it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from allocator import InvalidInputError
from sensitivity.profiling.language_profile import TABLES, profile_language_model
from tests.sensitivity.decoders import TOKENS, llama
from tests.sensitivity.studies import state


def test_every_table_is_filled() -> None:
    model = llama()
    before = state(model)
    profile = profile_language_model(
        model, [TOKENS], formats=["int2-g16", "int8-g16"], tables=TABLES, units="vllm", name="small", probes=2
    )
    assert tuple(profile.costs) == TABLES
    assert profile.model == "small"
    assert len(profile.layers) == 2 * 7 + 1  # vLLM keeps the embedding as it is
    for table in profile.costs.values():
        values = np.array(table.values)
        assert values.shape == (15, 2)
        assert np.isfinite(values).all()
    assert (np.array(profile.costs["kl"].values)[:, 0] > np.array(profile.costs["kl"].values)[:, 1]).all()
    assert {layer.unit for layer in profile.layers if layer.name.endswith(("q_proj", "k_proj"))} == {
        f"model.layers.{block}.self_attn.qkv_proj" for block in (0, 1)
    }
    assert state(model) == before


def test_a_table_nobody_knows() -> None:
    with pytest.raises(InvalidInputError, match="/tables: unknown table 'embedding_distance'; known: "):
        profile_language_model(llama(), [TOKENS], formats=["int8"], tables=["embedding_distance"])
