"""optimum-quanto: types by name."""

from __future__ import annotations

import json

import pytest

from allocator import InvalidInputError
from quantize.exports import export
from tests.quantize.exports.foreign import reading


def test_types_are_named() -> None:
    plan = {"a": "int8", "b": "uint4-g128", "c": "uint2-g128", "d": "fp16"}
    (text,) = export(plan, "quanto").files.values()
    assert json.loads(text) == {
        layer: {"weights": kind, "activations": "none"}
        for layer, kind in (("a", "qint8"), ("b", "qint4"), ("c", "qint2"), ("d", "none"))
    }


def test_activations_and_floats_are_read() -> None:
    document = {"up": {"weights": "qfloat8_e5m2", "activations": "qint8"}, "down": {"weights": None}}
    found = reading("quanto", document, None)
    assert found.assignment == {"up": "fp8_e5m2", "down": "fp16"}
    assert found.notes == ("up quantizes activations as well, which a plan of weights does not hold",)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"/config.json/up/weights: unknown type 'qint3'; known: none, qint8"
    ):
        reading("quanto", {"up": {"weights": "qint3"}})
