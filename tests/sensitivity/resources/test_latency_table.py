"""Latencies that the user brings as CSV."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from sensitivity import latency_table, latency_us
from sensitivity.resources import Spent
from tests.sensitivity.decoders import decoder_study, llama
from tests.sensitivity.studies import make_study, squares

MODEL = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def read(folder: Path, text: str) -> Spent:
    path = folder / "latency.csv"
    path.write_text(text)
    study = make_study(MODEL, [torch.ones(2, 4)], squares, ["int4", "fp16"])
    return latency_us(study, partial(latency_table, path=path))


def test_figures_are_those_of_the_file_in_any_order(tmp_path: Path) -> None:
    spent = read(
        tmp_path,
        "format,latency_us,layer,spread_us\n"
        "fp16,9.5,2,\n"
        "\n"
        "int4,1e1,0,0.5\n"
        'int4, 4 ,"2",1\n'
        "fp16,20,0,1.5\n"
        "int8,7,0,0\n"
        ",3.25,*constant,\n",
    )
    assert spent.table.values == ((10.0, 20.0), (4.0, 9.5))
    assert spent.table.constant == 3.25
    assert spent.table.unit == "us"
    assert spent.reasons == {}
    assert spent.note == "table latency.csv; batch 1; spread 6.9% of the median"


def test_spreadsheets_that_write_a_byte_order_mark(tmp_path: Path) -> None:
    text = "layer,format,latency_us\r\n0,int4,1\r\n0,fp16,2\r\n2,int4,1\r\n2,fp16,2\r\n"
    assert read(tmp_path, f"\ufeff{text}") == read(tmp_path, text)


def test_entries_without_a_line_are_null_with_a_reason(tmp_path: Path) -> None:
    spent = read(tmp_path, "layer,format,latency_us\n0,int4,1\n2,fp16,2\n")
    assert spent.table.values == ((1.0, None), (None, 2.0))
    reason = f"{tmp_path / 'latency.csv'} has no line for it"
    assert spent.reasons == {("0", "fp16"): reason, ("2", "int4"): reason}


def test_rows_that_do_no_work_need_no_line(tmp_path: Path) -> None:
    study = decoder_study(llama(), "weight", "activation", formats=("int4",))
    layers = [layer.name for layer in study.layers]
    path = tmp_path / "latency.csv"
    path.write_text("layer,format,latency_us\n" + "".join(f"{name},int4,2\n" for name in layers))
    spent = latency_us(study, partial(latency_table, path=path))
    assert spent.table.values == ((2.0,),) * len(layers) + ((0.0,),) * len(study.others)


HEADER = "layer,format,latency_us,spread_us\n"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "'.*' is empty; expected the header layer,format,latency_us"),
        ("\n  \n", "is empty"),
        (
            "layer,format\n0,int4\n",
            "line 1: expected the header layer,format,latency_us with each column once, got layer,format",
        ),
        ("layer,layer,format,latency_us\n", "line 1: expected the header"),
        ("layer,format,latency\n", "line 1: unknown column 'latency'; did you mean 'latency_us'"),
        (HEADER + "0,int4,fast,\n", "line 2: latency_us: expected a number of microseconds, got 'fast'"),
        (HEADER + "0,int4,,\n", "line 2: latency_us: expected a number of microseconds, got ''"),
        (HEADER + "\n0,int4,-1,\n", "line 3: latency_us: expected at least 0 microseconds, got '-1'"),
        (HEADER + "0,int4,nan,\n", "line 2: latency_us: expected at least 0 microseconds, got 'nan'"),
        (HEADER + "0,int4,1,-2\n", "line 2: spread_us: expected at least 0 microseconds, got '-2'"),
        (HEADER + "0,int4,1\n", "line 2: expected 4 values, got 3"),
        (HEADER + "0,int4,1,0\n1,int4,1,0\n", "line 3: unknown layer '1'; known: '0', '2'"),
        (HEADER + "0,int4,1,0\n0,int4,2,0\n", "line 3: '0' in 'int4' stands twice; keep one line"),
        (HEADER + "0,,1,0\n", r"line 2: expected a format for every layer and none for \*constant, got ''"),
        (
            HEADER + "*constant,int4,1,0\n",
            r"line 2: expected a format for every layer and none for \*constant",
        ),
        (HEADER + "0,int3,1,0\n", "has no figure for any layer in int4, fp16"),
        (HEADER + '0,"int4,1,0\n', "cannot read"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, detail: str) -> None:
    with pytest.raises(InvalidInputError, match=f"/resources/latency_us/path: .*{detail}"):
        read(tmp_path, text)


def test_every_wrong_line_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="line 2") as raised:
        read(tmp_path, HEADER + "0,int4,a,\n0,fp16,1,\n5,int4,1,\n")
    assert [fault.detail.partition(":")[0] for fault in raised.value.faults] == ["line 2", "line 4"]


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    study = make_study(MODEL, [torch.ones(2, 4)], squares, ["int4"])
    with pytest.raises(InvalidInputError, match=r"cannot read '.*absent\.csv'"):
        latency_us(study, partial(latency_table, path=tmp_path / "absent.csv"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match=r"cannot read '.*binary\.csv'"):
        latency_us(study, partial(latency_table, path=tmp_path / "binary.csv"))
