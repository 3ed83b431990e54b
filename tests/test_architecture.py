"""The page about the architecture is true: its arrows are the imports, and its journey is what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from allocator import solve
from quantize import apply
from quantize.feedback import refine, verify
from sensitivity import profile_model
from sensitivity.plans.planned import distance_of_plans
from sensitivity.study.calibration import Batch
from tests.test_arrows import NEVER, ROOMS, ROOT, files, imported

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def table(*columns: str) -> list[list[str]]:
    """The rows of the table that has these columns."""
    head = "| " + " | ".join(columns) + " |"
    rows = PAGE.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, head
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_arrows_of_the_page_are_the_imports() -> None:
    said = {
        re.findall(r"`(\w+)`", room)[0]: set(re.findall(r"`(\w+)`", calls))
        for room, calls, _ in table("room", "calls", "needs")
    }
    found = {
        room: {name for path in files(room) for name in imported(path)} & set(ROOMS) - {room}
        for room in ROOMS
    }
    assert said == found
    assert all(not said[room] & NEVER[room] for room in ROOMS)


def test_every_part_that_is_named_exists() -> None:
    for name in set(re.findall(r"`((?:bitalloc|allocator|quantize|sensitivity|api)(?:\.\w+)+)`", PAGE)):
        path = ROOT / name.replace(".", "/")
        module = path.parent.with_suffix(".py") if not path.exists() else path
        assert path.exists() or path.with_suffix(".py").exists() or _defines(path), (name, module)


def _defines(path: Path) -> bool:
    file = path.parent.with_suffix(".py")
    if not file.exists():
        file = path.parent / "__init__.py"
    return f"def {path.name}(" in file.read_text("utf-8")


def test_the_journey_happens_in_this_order() -> None:
    steps = [re.findall(r"`([\w.]+)`", where)[0] for _, where, _ in table("step", "where", "what happens")]
    assert len(steps) == 15
    met: list[str] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            name = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
            if name in steps and name not in met:
                met.append(name)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)).eval()
    batches = [(torch.randn(8, 64), torch.randint(0, 4, (8,)))]

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    def outputs(model: nn.Module, batch: Batch) -> torch.Tensor:
        found: torch.Tensor = model(batch[0])
        return found

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        profile = profile_model(model, batches, loss, ["int2-g64", "int4-g64", "int8-g64"], ["fisher"])
        plan = solve(profile.model_dump_json(), budgets={"effective_bits": 4})
        apply(model, plan, "torchao")
        measure = distance_of_plans(model, batches, outputs, lambda a, b: (a - b).square().sum(1))
        refined = refine(profile, measure, budgets={"effective_bits": 4}, max_evaluations=4)
        verify(profile, refined.allocation, measure, objective="fisher")
    finally:
        sys.setprofile(before)
    assert plan.status == "optimal"
    assert met == steps
