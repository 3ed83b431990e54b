"""auto-round's cache: a file per scheme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allocator import InvalidInputError
from quantize.imports import import_scores


def _cache(folder: Path, name: str, scheme: dict[str, Any], scores: Any, version: int = 1) -> Path:
    path = folder / f"scheme_00_{name}.json"
    totals = {"total_loss_for_scheme": 1.0, "total_params": 300}
    identity = {"version": version, "score_granularity": "per_op", "cache_key": name, "cache_config": {}}
    document = {**identity, "scheme_index": 0, "scheme": scheme, "layer_scores": scores, **totals}
    path.write_text(json.dumps(document))
    return path


INT4 = {"bits": 4, "group_size": 128, "sym": True, "data_type": "int", "act_bits": 16, "act_dynamic": None}


def test_each_file_is_a_column(tmp_path: Path) -> None:
    files = [
        _cache(tmp_path, "a", INT4, {"up": [1700, 0.5], "down": [860, 0.25]}),
        _cache(tmp_path, "b", INT4 | {"bits": 8, "group_size": -1, "sym": False}, {"up": [3201, 0.01]}),
        _cache(
            tmp_path, "c", INT4 | {"data_type": "mx_fp", "group_size": 32, "act_bits": 8}, {"up": [1700, 0.3]}
        ),
    ]
    profile = import_scores("auto-round", files)
    assert list(profile.formats) == ["int4-g128", "uint8", "mx_fp4-g32-a8"]
    assert [profile.formats[name].activation_bits for name in profile.formats] == [16, 16, 8]
    assert [layer.name for layer in profile.layers] == ["up", "down"]
    assert profile.costs["delta_loss"].values == ((0.5, 0.01, 0.3), (0.25, None, None))
    assert profile.resources["weight_bytes"].values == ((213, 401, 213), (108, None, None))


def test_two_files_of_one_scheme_are_refused(tmp_path: Path) -> None:
    files = [_cache(tmp_path, name, INT4, {"up": [1, 1]}) for name in ("a", "b")]
    with pytest.raises(
        InvalidInputError, match=r"scheme_00_b.json: another file holds scores of 'int4-g128' too"
    ):
        import_scores("auto-round", files)


@pytest.mark.parametrize(
    ("scheme", "scores", "version", "message"),
    [
        (INT4, {"up": [1, 1]}, 2, "/version: expected version 1 of auto-round's cache, got 2"),
        (INT4, {"up": [1]}, 1, r"'up': expected bits and loss, got \[1\]"),
        (INT4, {"up": [1, "low"]}, 1, "/layer_scores/up/1: expected a finite number, got 'low'"),
        (INT4, [], 1, "/layer_scores: expected a table of names, got list"),
        ({"preset": "W4A16"}, {}, 1, "/scheme/bits: expected a whole number, got nothing"),
    ],
)
def test_a_file_that_is_no_cache_is_refused(
    tmp_path: Path, scheme: dict[str, Any], scores: Any, version: int, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        import_scores("auto-round", [_cache(tmp_path, "a", scheme, scores, version)])
