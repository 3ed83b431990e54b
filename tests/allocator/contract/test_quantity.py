from __future__ import annotations

import pytest

from allocator.contract.quantity import parse_quantity


@pytest.mark.parametrize(
    ("given", "unit", "expected"),
    [
        (12, "byte", 12.0),
        ("12", "byte", 12.0),
        (" 12 MiB ", "byte", 12 * 2**20),
        ("12MiB", "byte", 12 * 2**20),
        ("1 MB", "byte", 1e6),
        ("1 kb", "B", 1000.0),
        ("3 GiB", "MiB", 3072.0),
        ("512 KiB", "MiB", 0.5),
        ("900 us", "us", 900.0),
        ("0.9 ms", "us", 900.0),
        ("2 s", "ms", 2000.0),
        ("1.5e3 ns", "us", 1.5),
        ("4.25", "bit", 4.25),
        ("7 giga bit-operations", "giga bit-operations", 7.0),
        ("-3", "", -3.0),
    ],
)
def test_reads_amounts_in_the_unit_of_the_table(given: float | str, unit: str, expected: float) -> None:
    assert parse_quantity(given, unit) == expected


@pytest.mark.parametrize(
    ("given", "unit", "words"),
    [
        ("a lot", "byte", "expected a number with an optional unit such as '12 MiB', got 'a lot'"),
        ("", "byte", "expected a number"),
        ("1e999", "byte", "expected a number"),
        ("3 furlongs", "byte", "unknown unit 'furlongs' in '3 furlongs'; known: B kB"),
        ("3 ms", "byte", "'3 ms' is a time, but the table is in byte"),
        ("3 MiB", "", "'3 MiB' is a size, but the table is in no unit"),
    ],
)
def test_refuses_what_cannot_be_read(given: str, unit: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_quantity(given, unit)
