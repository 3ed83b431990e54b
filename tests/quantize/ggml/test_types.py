"""Sizes, fallbacks and numbers of ggml's types, which need no ggml."""

from __future__ import annotations

import math
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from allocator import InvalidInputError, MissingPackageError
from quantize import parse_format, round_trip
from quantize.ggml import library
from quantize.ggml.types import TYPES, bytes_of, fitting, misfit
from quantize.llama_types import OWN

#: llama-quant.cpp:tensor_type_fallback, typed off.
FALLS_BACK = {
    "iq1_s": "iq4_nl", "iq1_m": "iq4_nl", "iq2_xxs": "iq4_nl", "iq2_xs": "iq4_nl", "iq2_s": "iq4_nl",
    "iq3_xxs": "iq4_nl", "iq3_s": "iq4_nl", "iq4_xs": "iq4_nl",
    "q2_k": "q4_0", "q3_k": "q4_0", "tq1_0": "q4_0", "tq2_0": "q4_0",
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip
ROWS = (
    32,
    64,
    96,
    128,
    256,
    288,
    320,
    512,
    576,
    640,
    768,
    896,
    1024,
    1152,
    1536,
    2048,
    2560,
    4096,
    5120,
    8640,
)
SHAPES = [(rows, row) for rows, row in zip((1, 3, 7, 64, 577) * 6, (*ROWS, *ROWS[:10]), strict=True)]


@pytest.mark.parametrize("name", TYPES)
def test_numbers_and_blocks_are_those_of_gguf(name: str) -> None:
    kind = TYPES[name]
    theirs = GGMLQuantizationType[name.upper()]
    assert kind.number == theirs.value
    assert (kind.block, kind.block_bytes) == GGML_QUANT_SIZES[theirs]
    assert (kind.fallback is None) == (name not in FALLS_BACK)


@pytest.mark.parametrize("name", [name for name in TYPES if name not in {"q4_0", "q5_0", "q8_0"}])
def test_bytes_of_thirty_shapes_are_those_of_gguf(name: str) -> None:
    for rows, row in SHAPES:
        weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[name.upper()]]
        if row % weights and name not in FALLS_BACK:
            assert misfit(name, row) is not None
            continue
        if row % weights:
            weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[FALLS_BACK[name].upper()]]
        assert row % weights == 0
        assert parse_format(name).stored_bytes((rows, row)) == rows * row // weights * size


def test_rows_of_a_convolution_count_as_they_are_stored() -> None:
    assert bytes_of("q4_k", (8, 64, 2, 2)) == bytes_of("q4_k", (8, 256))


def test_what_fits_nothing_is_half_precision() -> None:
    assert fitting("q4_k", 80).name == "f16"
    assert bytes_of("q4_k", (3, 80)) == 3 * 80 * 2


def test_types_without_a_fallback_refuse_rows_that_do_not_fit() -> None:
    with pytest.raises(
        InvalidInputError, match="rows of 96 are not whole blocks of 64, and nvfp4 has no fallback"
    ):
        fitting("nvfp4", 96)
    with pytest.raises(
        InvalidInputError, match="rows of 80 are not whole blocks of 32, and q4_1 has no fallback"
    ):
        round_trip(np.ones((2, 80), np.float32), OWN["q4_1"])


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="unknown type of ggml 'q4_x'"):
        fitting("q4_x", 32)


@pytest.mark.parametrize("name", OWN)
def test_a_type_is_a_column(name: str) -> None:
    fmt = parse_format(name)
    assert fmt.describe().weight_bits == fmt.bits
    assert math.isclose(fmt.stored_bytes((1, 4096)) * 8 / 4096, fmt.bits, rel_tol=0.8)
    assert not fmt.integer
    assert (
        fmt.name in gguf.GGMLQuantizationType.__members__
        or fmt.name.upper() in gguf.GGMLQuantizationType.__members__
    )


def test_without_ggml_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library.library.cache_clear()
    monkeypatch.setattr(library, "PACKAGE", "no_such_package_of_ggml")
    assert not library.installed()
    with pytest.raises(
        MissingPackageError, match=r"is not installed; install it with: pip install 'bitalloc\[ggml\]'"
    ):
        round_trip(np.ones((2, 256), np.float32), OWN["q4_k"])
    (tmp_path / "empty_package_of_ggml").mkdir()
    (tmp_path / "empty_package_of_ggml" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(library, "PACKAGE", "empty_package_of_ggml")
    with pytest.raises(
        MissingPackageError, match="the installed empty_package_of_ggml exports no ggml_quantize_chunk"
    ):
        library.library()
    library.library.cache_clear()
