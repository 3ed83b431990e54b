"""What is free, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from allocator import InvalidInputError
from sensitivity.profiling.memory import free_bytes, require_memory, size_bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  100 kB\nMemAvailable:   60 kB\nHugePages_Total: 0\n")
    return tmp_path


def test_available_memory_counts_within_the_limit_of_the_control_group(root: Path) -> None:
    group = root / "sys/fs/cgroup"
    assert free_bytes(root=root) == 60 * 1024
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    assert free_bytes(root=root) == 60 * 1024
    (group / "memory.max").write_text("11000\n")
    assert free_bytes(root=root) == 10000


def test_a_machine_that_does_not_say_what_is_available_says_what_it_has(tmp_path: Path, root: Path) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert free_bytes(root=tmp_path / "nowhere") == physical
    (root / "proc/meminfo").write_text("MemTotal:  100 kB\n")
    assert free_bytes(root=root) == physical


def test_this_machine_has_some() -> None:
    free = free_bytes()
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_tied_weights_take_their_bytes_once() -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False), nn.BatchNorm1d(10))
    model[1].weight = model[0].weight
    assert size_bytes(model) == 10 * 4 * 4 + 4 * 10 * 4 + 8
    assert size_bytes(nn.Linear(4, 2, dtype=torch.float16)) == 20


def test_what_fits_and_what_is_not_known_is_not_refused() -> None:
    require_memory({"a": 6, "b": 4}, 10, "/workers", "")
    require_memory({"a": 2**60}, None, "/workers", "")


def test_what_does_not_fit_is_refused_with_the_estimate() -> None:
    message = r"^/workers: needs about 4\.0 GiB \(one 1\.0, other 3\.0\), 3\.9 GiB are free; do something$"
    with pytest.raises(InvalidInputError, match=message):
        require_memory({"one": 2**30, "other": 3 * 2**30}, int(3.9 * 2**30), "/workers", "do something")
