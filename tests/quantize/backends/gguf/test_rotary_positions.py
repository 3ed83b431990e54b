"""Rotary positions, against those of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from quantize.backends.gguf.rotary_positions import base_of, divisors_of, head_width, settings_of

STRETCHED = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SIZES = {"hidden_size": 256, "num_attention_heads": 2, "max_position_embeddings": 131072}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_divisors_are_those_of_transformers(theta: float, old: bool) -> None:
    whole = LlamaConfig(**SIZES, rope_parameters={**STRETCHED, "rope_theta": theta})
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](whole, None)
    plain = theta ** -(np.arange(0, 128, 2) / 128)
    config: dict[str, Any] = (
        {**SIZES, "rope_theta": theta, "rope_scaling": STRETCHED}
        if old
        else {**SIZES, "rope_parameters": {**STRETCHED, "rope_theta": theta}}
    )
    found = divisors_of(config)
    assert found is not None
    assert base_of(config) == theta
    assert head_width(config) == 128
    np.testing.assert_allclose(plain / found, stretched.numpy(), rtol=1e-5)
    assert found[0] == 1
    assert found[-1] == 8
    assert ((found > 1) & (found < 8)).any()


@pytest.mark.parametrize("config", [SIZES, SIZES | {"rope_scaling": None}, SIZES | {"rope_parameters": {}}])
def test_plain_positions_are_divided_by_nothing(config: dict[str, Any]) -> None:
    assert divisors_of(config) is None
    assert base_of(config) == 10000.0


def test_old_names_of_settings_are_understood() -> None:
    assert settings_of({"rope_scaling": {"type": "yarn", "factor": 4.0}})["rope_type"] == "yarn"
    assert head_width({"head_dim": 96, "hidden_size": 256, "num_attention_heads": 2}) == 96
