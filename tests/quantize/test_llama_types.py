"""Types of llama.cpp as formats: names, blocks and exact bytes."""

from __future__ import annotations

import numpy as np
import pytest

from allocator import InvalidInputError
from quantize import formats_of, parse_format, round_trip
from quantize.backends.torchao.apply import apply
from quantize.lint import lint_plan
from quantize.llama_types import (
    FORK,
    OWN,
    TWINS,
    format_named,
    formats_named,
    is_of_fork,
    type_name,
    type_named,
)


@pytest.mark.parametrize("name", list(OWN))
def test_blocks_and_bytes_are_those_of_gguf(name: str) -> None:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[name.upper()]]
    assert OWN[name].stored_bytes((3, 2 * weights)) == 3 * 2 * size
    assert (OWN[name].block_size or OWN[name].group_size) == weights


def test_every_type_that_gguf_quantizes_to_is_known() -> None:
    from gguf.constants import GGML_QUANT_SIZES

    names = {kind.name.lower() for kind in GGML_QUANT_SIZES}
    whole_numbers = {name for name in names if name.startswith("i") and name[1:].isdigit()}
    assert names - whole_numbers - {"f64", "q8_1", "q8_k"} == set(TWINS) | set(OWN)


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("q8_0", "int8-g32"), ("Q8_0", "int8-g32"), ("Q4_K", "q4_k"), ("F16", "fp16"), ("BF16", "bf16"),
        ("MXFP4", "mxfp4"), ("TQ1_0", "tq1_0"), ("iq4_ks", "iq4_ks"), ("IQ3_K_R4", "iq3_k_r4"),
        ("q8_0_r8", "q8_0_r8"), ("int4-g64", "int4-g64"), ("mxfp8", "mxfp8"),
    ],
)  # fmt: skip
def test_names_pass_as_they_are_in_any_case(name: str, format_name: str) -> None:
    assert format_named(name).name == format_name
    assert formats_of({"a": name})["a"] == format_named(name)


def test_a_format_has_the_name_of_its_type() -> None:
    for name in [*TWINS, *OWN, *FORK, "iq4_k_r4"]:
        assert type_name(format_named(name)) == name


def test_types_of_the_fork_are_told_apart() -> None:
    assert all(is_of_fork(found) for found in FORK.values())
    assert not any(is_of_fork(found) for found in OWN.values())
    assert is_of_fork(format_named("q4_k_r4"))
    assert not is_of_fork(parse_format("int4-g32"))
    assert type_named("f16_r4") is None
    assert type_named("what_r4") is None


def test_bytes_that_are_not_known_are_not_made_up() -> None:
    with pytest.raises(InvalidInputError, match="the bytes of 'iq4_ks' are not known here"):
        format_named("iq4_ks").stored_bytes((1, 256))


def test_an_unknown_format_is_said_once_and_not_for_every_layer() -> None:
    with pytest.raises(InvalidInputError) as caught:
        formats_named({"a": "q9", "b": "int4", "c": "q9", "d": "q9", "e": "?"})
    assert [fault.pointer for fault in caught.value.faults] == ["/assignment/a", "/assignment/e"]
    assert "(and of 2 more layers)" in caught.value.faults[0].detail
    assert "more layers" not in caught.value.faults[1].detail


@pytest.mark.parametrize("name", ["Q4_K_M", "q3_k_s", "iq3_m", "Q2_K_L"])
def test_a_recipe_for_a_whole_model_is_no_type(name: str) -> None:
    with pytest.raises(
        InvalidInputError, match="is a recipe of llama-quantize for a whole model, not a type"
    ):
        format_named(name)


def test_the_types_are_among_what_is_known() -> None:
    with pytest.raises(
        InvalidInputError, match=r"unknown format 'q9'; known: int1 .*types of llama.cpp, q4_0"
    ):
        format_named("q9")


def test_only_their_own_tools_round_to_types_of_the_fork() -> None:
    with pytest.raises(
        InvalidInputError, match=r"iq4_ks is a type of ik_llama.cpp, which only its own tools round to"
    ):
        round_trip(np.ones((2, 256), np.float32), FORK["iq4_ks"])


@pytest.mark.parametrize("name", ["q6_k", "iq4_ks"])
def test_a_backend_without_code_for_a_type_says_so_by_name(name: str) -> None:
    import torch

    with pytest.raises(
        InvalidInputError, match=rf"the torchao backend has no code for {name}, which is a type of"
    ):
        apply(torch.nn.Sequential(torch.nn.Linear(256, 2)), {"0": format_named(name)})
    (finding,) = lint_plan({"up": name}, "vllm")
    assert (finding.severity, finding.rule) == ("error", "formats")
    assert f"it has no code for {name}, which is a type of llama.cpp" in finding.detail
