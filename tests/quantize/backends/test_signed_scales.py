"""Scales below zero in every backend: written as they are, and multiplied with by the code that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allocator import InvalidInputError
from quantize import parse_format, quantize
from quantize.exports import export
from quantize.lint import lint_plan
from tests.quantize.backends.test_contract import NAMES, driver
from tests.quantize.models import dequantized

MIXED = {
    "compressed-tensors": ("int4-g32", "int2-g32", "int8"),
    "gguf": ("int8-g32", "int4-g32", "int5-g32"),
    "onnxruntime": ("int2-g32", "int4-g32", "int8-g32"),
    "torchao": ("int3-g32", "int8-g32", "int8"),
}


@pytest.mark.parametrize("name", NAMES)
def test_scales_of_both_signs_are_read_as_they_were_chosen(
    name: str, tokens_file: Path, tmp_path: Path
) -> None:
    backend = driver(name, tokens_file, tmp_path)
    plan = dict(zip(backend.layers, MIXED[name], strict=True))
    backend.apply(plan)
    for layer, kind in plan.items():
        made = quantize(backend.original_weight(layer), parse_format(kind))
        assert (made.scales < 0).any()
        assert (made.scales > 0).any()
        assert np.array_equal(backend.weight(layer), made.dequantize()), layer
    expected = dequantized(backend.model, plan)
    assert np.abs(backend.run() - expected).max() <= max(backend.tolerance, 0.02) * np.abs(expected).max()


def test_one_symmetric_bit_is_refused_where_zero_points_are_whole(tokens_file: Path, tmp_path: Path) -> None:
    packer = driver("compressed-tensors", tokens_file, tmp_path)
    for force in (False, True):
        with pytest.raises(
            InvalidInputError, match=r"/assignment/up: one bit stands for −s and \+s, .* 'int1-g32' cannot be"
        ):
            packer.apply({"up": "int1-g32"}, force=force)
        assert packer.nothing_was_made()
    (found,) = lint_plan({"up": "int1-g32"}, "transformers")
    assert (found.severity, found.rule) == ("error", "formats")
    assert "whole zero points only" in found.detail


@pytest.mark.parametrize("target", ["compressed-tensors", "llm-compressor", "torchao"])
def test_a_tool_that_rounds_one_bit_to_nothing_is_not_asked_to(target: str) -> None:
    made = export({"up": "int1-g32", "down": "int2-g32"}, target)
    assert [(loss.layer, loss.wanted, loss.instead) for loss in made.losses] == [
        ("up", "int1-g32", "uint1-g32")
    ]
