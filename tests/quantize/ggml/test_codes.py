"""Codes of ggml's types: ggml's own, and read by gguf-py as we read them."""

from __future__ import annotations

import ctypes

import gguf
import numpy as np
import pytest

from allocator import InvalidInputError
from quantize import Rounding, parse_format, restored, round_trip
from quantize.ggml import library
from quantize.ggml.codes import codes, values
from quantize.ggml.types import TYPES, BlockType
from quantize.llama_types import OWN
from quantize.rounding.methods import moment_faults
from tests.quantize.ggml.marks import NEEDS_GGML

pytestmark = NEEDS_GGML
#: Types whose search takes seconds for the smallest weight; their first use builds tables that take longer.
SLOW = {"iq1_s", "iq2_xxs", "iq2_xs", "iq2_s", "iq1_m"}
QUICK = [name for name in TYPES if name not in SLOW]


def weight(rows: int = 6, row: int = 512) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, row)).astype(np.float32)


def importance(row: int = 512) -> np.ndarray:
    return np.random.default_rng(1).gamma(1, size=row).astype(np.float32)


def kind_of(name: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[name.upper()]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.thorough
def test_codes_are_what_one_call_of_ggml_writes(name: str, weighted: bool) -> None:
    if TYPES[name].needs_importance and not weighted:
        return
    plain, own = weight(40, 1024), importance(1024) if weighted else None
    made = codes(plain, name, own)
    expected = np.empty_like(made)
    scaled = None if own is None else (own / own.astype(np.float64).mean()).astype(np.float32)
    where = None if scaled is None else scaled.ctypes.data
    call = library.library().ggml_quantize_chunk
    written = call(TYPES[name].number, plain.ctypes.data, expected.ctypes.data, 0, 40, 1024, where)
    assert written == made.nbytes == TYPES[name].block_bytes * 40 * 1024 // TYPES[name].block
    assert np.array_equal(made, expected)


@pytest.mark.parametrize("name", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1"])
def test_codes_equal_those_of_the_package_where_it_has_them(name: str) -> None:
    plain = weight()
    ours, theirs = codes(plain, name), gguf.quantize(plain, kind_of(name))
    if name == "q8_0":
        assert np.array_equal(ours, theirs)
    else:  # ggml searches for a minimum, or breaks ties by the processor's rounding
        assert np.mean(ours != theirs) < (0.9 if name.endswith("_1") else 0.01)
        error = np.square(values(ours, name, plain.shape) - plain).sum()
        assert error <= 1.001 * np.square(gguf.dequantize(theirs, kind_of(name)) - plain).sum()


@pytest.mark.parametrize("name", [name for name in QUICK if name != "q1_0"])
def test_values_are_those_that_the_package_reads(name: str) -> None:
    made = codes(weight(), name, importance())
    assert np.array_equal(values(made, name, (6, 512)), gguf.dequantize(made, kind_of(name)))


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SLOW))
def test_slow_types_are_read_alike_too(name: str) -> None:
    plain = weight(1, 256)
    made = codes(plain, name, importance(256))
    assert np.array_equal(values(made, name, plain.shape), gguf.dequantize(made, kind_of(name)))
    assert 0.01 < np.square(values(made, name, plain.shape) - plain).mean() < 0.4


@pytest.mark.parametrize("name", OWN)
def test_the_installed_ggml_has_every_type(name: str) -> None:
    if name != "mxfp4":
        assert library.knows(TYPES[name])


def test_errors_fall_with_bits() -> None:
    plain, own = weight(16, 1024), importance(1024)
    for names in (["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"], ["q4_1", "q5_1"], ["iq3_xxs", "iq3_s", "iq4_xs"]):
        errors = [np.square(restored(plain, OWN[name], Rounding("scale_search"), np.diag(own)) - plain).mean()
                  for name in names]  # fmt: skip
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < errors[0] / 2


@pytest.mark.parametrize(
    ("name", "row", "other"), [("q4_k", 288, "q5_0"), ("q3_k", 96, "q4_0"), ("iq4_xs", 320, "iq4_nl")]
)
def test_rows_that_are_no_whole_blocks_are_stored_in_the_fallback(name: str, row: int, other: str) -> None:
    plain = weight(4, row)
    made = codes(plain, other)
    assert OWN[name].stored_bytes(plain.shape) == made.nbytes
    assert np.array_equal(round_trip(plain, OWN[name]), values(made, other, plain.shape))
    codec = OWN[name].codec
    assert codec is not None
    assert codec.stored_as is not None
    assert codec.stored_as(plain.shape) == other


def test_rows_that_fit_nothing_become_half_precision() -> None:
    plain = weight(4, 80)
    assert np.array_equal(round_trip(plain, OWN["q4_k"]), plain.astype(np.float16).astype(np.float32))
    assert OWN["q4_k"].stored_bytes(plain.shape) == codes(plain, "q4_k").nbytes


def test_rows_do_not_depend_on_each_other() -> None:
    plain = weight(200, 256)
    assert np.array_equal(codes(plain, "q4_k")[37:91], codes(plain[37:91], "q4_k"))
    assert codes(plain[:0], "q4_k").shape == (0, 144)


def test_a_convolution_is_rounded_by_its_rows_and_groups() -> None:
    plain = weight(4, 1024).reshape(4, 64, 4, 4)
    expected = round_trip(plain.reshape(4, 1024), OWN["q4_k"]).reshape(plain.shape)
    assert np.array_equal(round_trip(plain, OWN["q4_k"]), expected)
    moment = np.stack([np.diag(importance(1024)), np.diag(importance(1024)[::-1])])
    made = restored(plain, OWN["q4_k"], Rounding("scale_search"), moment)
    for group in (0, 1):
        alone = restored(plain[2 * group :][:2], OWN["q4_k"], Rounding("scale_search"), moment[group])
        assert np.array_equal(made[2 * group :][:2], alone)


def test_moments_are_the_importance_only_where_asked_for_or_needed() -> None:
    plain, moment = weight(), np.diag(importance())
    nearest = round_trip(plain, OWN["q3_k"])
    assert np.array_equal(restored(plain, OWN["q3_k"], moment=moment), nearest)
    searched = restored(plain, OWN["q3_k"], Rounding("scale_search"), moment)
    assert (np.square(searched - plain) @ importance()).sum() < (
        np.square(nearest - plain) @ importance()
    ).sum()
    assert np.array_equal(restored(plain, OWN["iq3_xxs"], moment=moment),
                          restored(plain, OWN["iq3_xxs"], Rounding("gptq"), moment))  # fmt: skip


def test_types_that_need_an_importance_refuse_to_do_without() -> None:
    for act in (lambda: round_trip(weight(), OWN["iq2_xs"]), lambda: restored(weight(), OWN["iq1_s"])):
        with pytest.raises(
            InvalidInputError, match=r"needs to know how much each input counts, .* give moments"
        ):
            act()
    with pytest.raises(
        InvalidInputError, match="iq2_s needs an importance for each input, and there is none"
    ):
        codes(weight(), "iq2_s")
    faults = moment_faults({"a": (6, 512)}, {"a": OWN["iq2_xs"]}, Rounding(), {"a": np.ones(6)})
    assert "give moments" in faults[0].detail  # counts of a table that is looked up
    (fault,) = moment_faults({"a": (6, 512)}, {"a": OWN["iq2_xs"]}, Rounding(), {"a": np.eye(3)})
    assert "expected (512, 512)" in fault.detail
    assert moment_faults({"a": (6, 512)}, {"a": OWN["q4_k"]}, Rounding("gptq"), None) == []
    with pytest.raises(InvalidInputError, match=r"/moment: expected \(512, 512\)"):
        restored(weight(), OWN["iq2_xs"], moment=np.eye(3))


@pytest.mark.parametrize("wrong", [np.zeros(512), np.full(512, -1.0), np.full(512, np.nan)])
def test_an_importance_of_nothing_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(
        InvalidInputError, match="expected numbers that are finite, not negative and not all zero"
    ):
        codes(weight(), "q4_k", wrong)
    with pytest.raises(InvalidInputError, match=r"expected \(512,\), one for each input; got \(3,\)"):
        codes(weight(), "q4_k", np.ones(3, np.float32))


def test_an_input_that_was_never_seen_still_counts() -> None:
    own = importance()
    own[5] = 0
    least = own.copy()
    least[5] = own[own > 0].min()
    assert np.array_equal(codes(weight(), "q4_k", own), codes(weight(), "q4_k", least))
    assert np.array_equal(codes(weight(), "q4_k", own * 1000), codes(weight(), "q4_k", own))


@pytest.mark.parametrize("name", ["q4_k", "q6_k", "iq4_xs"])
def test_weights_beyond_half_precision_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="which needs scales beyond half precision; use bf16 or fp32"):
        round_trip(np.full((1, 256), 1e9, np.float32), OWN[name])
    with pytest.raises(InvalidInputError, match="holds NaN or infinity"):
        round_trip(np.full((1, 256), np.nan, np.float32), OWN[name])


def test_a_type_that_this_ggml_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = BlockType("q4_k", 12, 4, 32, False, 256, 145, "q5_0")
    monkeypatch.setitem(TYPES, "q4_k", odd)
    with pytest.raises(InvalidInputError, match=r"the installed ggml, .*\(.*\), has no type q4_k"):
        codes(weight(), "q4_k")


def test_gaussian_errors_are_those_that_were_measured_before() -> None:
    plain = weight(64, 1024)
    relative = {name: np.square(round_trip(plain, parse_format(name)) - plain).sum() / np.square(plain).sum()
                for name in ("q3_k", "q4_k", "q6_k", "iq4_xs", "nvfp4")}  # fmt: skip
    known = {"q3_k": 0.0228, "q4_k": 0.0051, "q6_k": 0.00031, "iq4_xs": 0.0059, "nvfp4": 0.0106}
    for name, expected in known.items():
        assert relative[name] == pytest.approx(expected, rel=0.2)


def test_calls_are_declared_for_pointers_of_64_bits() -> None:
    assert library.library().ggml_quantize_chunk.argtypes[1] is ctypes.c_void_p
