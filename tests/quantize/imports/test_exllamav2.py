"""exllamav2's measurement: settings of whole modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allocator import InvalidInputError, solve
from quantize.imports import import_scores


def _projection(bits: list[int], shares: list[float]) -> dict[str, Any]:
    return {
        "group_size": {str(width): 128 for width in bits},
        "bits": bits,
        "bits_prop": shares,
        "scale_bits": 4,
    }


def _option(accuracy: float, total: int, **projections: dict[str, Any]) -> dict[str, Any]:
    return {"accuracy": accuracy, "total_bits": total, **projections}


FOUR, MIXED = _projection([4], [1]), _projection([3, 2], [0.25, 0.75])
ATTENTION = [
    _option(0.75, 4001, q_proj=FOUR, k_proj=FOUR, v_proj=FOUR, o_proj=FOUR),
    _option(0.5, 2300, q_proj=MIXED, k_proj=MIXED, v_proj=MIXED, o_proj=MIXED),
]
MLP = [_option(0.875, 8000, gate_proj=FOUR, up_proj=FOUR, down_proj=FOUR)]


def _read(folder: Path, measurement: Any) -> Any:
    path = folder / "measurement.json"
    path.write_text(json.dumps({"measurement": measurement, "last_module_idx": 3}))
    return import_scores("exllamav2", [path])


def test_modules_are_rows_and_settings_are_columns(tmp_path: Path) -> None:
    modules = {
        f"model.layers.{index}.{part}": options
        for index in (0, 1)
        for part, options in (("self_attn", ATTENTION), ("mlp", MLP))
    }
    profile = _read(tmp_path, modules)
    assert list(profile.formats) == ["self_attn-4.000", "self_attn-2.250", "mlp-4.000"]
    assert [profile.formats[name].weight_bits for name in profile.formats] == [4, 2.25, 4]
    assert [layer.name for layer in profile.layers] == list(modules)
    assert profile.costs["output_error"].values[:2] == ((0.25, 0.5, None), (None, None, 0.125))
    assert profile.resources["weight_bytes"].values[:2] == ((501, 288, None), (None, None, 1000))
    plan = solve(profile, budgets={"weight_bytes": 2800}).assignment
    assert plan is not None
    assert plan["model.layers.1.mlp"] == "mlp-4.000"


def test_settings_of_equal_bits_stay_apart(tmp_path: Path) -> None:
    other = {**FOUR, "group_size": {"4": 32}}
    options = [_option(0.5, 10, up_proj=FOUR), _option(0.6, 12, up_proj=other)]
    profile = _read(tmp_path, {"a.mlp": options, "b.mlp": options})
    assert list(profile.formats) == ["mlp-4.000", "mlp-4.000-1"]
    assert profile.resources["weight_bytes"].values == ((2, 2), (2, 2))
    assert profile.costs["output_error"].values == ((0.5, 0.4), (0.5, 0.4))


@pytest.mark.parametrize(
    ("measurement", "message"),
    [
        (None, "/measurement: expected a table of names, got nothing"),
        ({"a": {}}, "/measurement/a: expected a list, got dict"),
        ({"a": [_option(0.5, 1)]}, "'a': expected bits of projections, got {}"),
        ({"a": [_option("x", 1, up=FOUR)]}, "/measurement/a/0/accuracy: expected a finite number, got 'x'"),  # type: ignore[arg-type]
        ({"a": [_option(0.5, 1, up={"bits": 4})]}, "/a/0/up/bits: expected a list, got int '4'"),
    ],
)
def test_a_file_that_is_no_measurement_is_refused(tmp_path: Path, measurement: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _read(tmp_path, measurement)
