"""A table of scores, and every line that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocator import InvalidInputError, Profile
from quantize.formats import FORMATS
from quantize.imports import import_scores
from quantize.llama_types import OWN, TWINS


def _read(folder: Path, text: str) -> Profile:
    path = folder / "scores.csv"
    path.write_bytes(text.encode())
    return import_scores("csv", [path])


def test_a_table_becomes_a_profile(tmp_path: Path) -> None:
    text = (
        "\ufefflayer, format, cost, bytes, parameters, unit\r\n"
        "attn.q, int4-g64, 0.5, 100, 800, attn\r\n"
        '"attn.k", int4-g64, 1e-3, 50, 400, attn\r\n'
        "attn.q, fp16, -0.25, 1600, 800, attn\r\n"
        "up, fp16, , 32, , \r\n"
    )
    profile = _read(tmp_path, text)
    assert list(profile.formats) == ["int4-g64", "fp16"]
    assert profile.formats["int4-g64"].group_size == 64
    assert [(layer.name, layer.parameters, layer.unit) for layer in profile.layers] == [
        ("attn.q", 800, "attn"), ("attn.k", 400, "attn"), ("up", None, None),
    ]  # fmt: skip
    assert profile.costs["cost"].values == ((0.5, -0.25), (0.001, None), (None, None))
    assert profile.resources["weight_bytes"].values == ((100, 1600), (50, None), (None, 32))


def test_formats_of_ones_own_have_their_bits_beside_them(tmp_path: Path) -> None:
    profile = _read(tmp_path, "layer,format,cost,bits\na,q4_k,1,4.5\na,iq2,2,2.06\n")
    assert {name: column.weight_bits for name, column in profile.formats.items()} == {
        "q4_k": 4.5,
        "iq2": 2.06,
    }
    assert profile.resources == {}


def test_every_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    lines = [
        "layer,format,cost,bytes,parameters,bits",
        "a,int4,1,2,3,",
        "a,int4,1,2,3,",
        "b,int4,one,2,3,",
        "b,int4,inf,2,3,",
        "b,q7,1,2,3,",
        "b,q7,1,2,3,99",
        ",int4,1,2,3,",
        "b,int8,1,-2,3,",
        "b,int8,1,2,3.5,",
        "b,int8,1",
        "b,int8,1,2,3,,,",
    ]
    with pytest.raises(InvalidInputError) as caught:
        _read(tmp_path, "\n".join(lines))
    assert [str(fault) for fault in caught.value.faults] == [
        "/scores.csv: line 3: 'a' with 'int4' is given twice",
        "/scores.csv: line 4: expected a number as cost, got 'one'",
        "/scores.csv: line 5: expected a finite number as cost, got 'inf'",
        "/scores.csv: line 6: unknown format 'q7'; known: int1 … int8 and uint1 … uint8, each with -g<size> for groups "
        f"(int4-g64), {', '.join(FORMATS)}; and the types of llama.cpp, "
        + ", ".join(name for name in [*TWINS, *OWN] if name not in FORMATS)
        + "; or give its bits in a column of that name",
        "/scores.csv: line 7: expected more than 0 and at most 64 bits, got 99.0",
        "/scores.csv: line 8: expected a layer and a format, got an empty field",
        "/scores.csv: line 9: expected a size of at least 0 bytes, got -2.0",
        "/scores.csv: line 10: expected a whole number as parameters, got 3.5",
        "/scores.csv: line 11: expected as many fields as columns, got ['b', 'int8', '1']",
        "/scores.csv: line 12: expected as many fields as columns, got ['b', 'int8', '1', '2', '3', ['', '']]",
    ]


@pytest.mark.parametrize(
    "header", ["", "layer,format", "layer,cost", "format,cost", "layer,format,cost,colour"]
)
def test_columns_that_are_missing_or_strange_are_named(tmp_path: Path, header: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"/scores.csv: line 1: expected the columns layer, format, cost, bytes"
    ):
        _read(tmp_path, f"{header}\na,int4\n")


def test_types_of_llama_cpp_are_formats_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("layer,format,cost\nup,Q4_K,2\nup,iq4_ks,3\nup,q8_0,1\n")
    formats = import_scores("csv", [path]).formats
    assert {name: found.weight_bits for name, found in formats.items()} == {"Q4_K": 4, "iq4_ks": 4, "q8_0": 8}


def test_a_field_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"layer,format,cost\nup,int4,1\n{'x' * 200_000},int4,1\n")
    with pytest.raises(InvalidInputError, match=r"/scores.csv: after line 2: field larger than field limit"):
        import_scores("csv", [path])


@pytest.mark.thorough
def test_an_unknown_format_is_said_once_for_all_of_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("layer,format,cost\n" + "".join(f"l{index},q9,1\n" for index in range(50)))
    with pytest.raises(
        InvalidInputError, match=r"line 2 \(and 49 more lines\): unknown format 'q9'"
    ) as caught:
        import_scores("csv", [path])
    assert len(caught.value.faults) == 1
