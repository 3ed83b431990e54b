"""The blocking client is the asynchronous one, translated; plans reach the service in every form."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from allocator import InvalidInputError, frontier
from bitalloc.client import AsyncClient, Client
from quantize.exports import export
from tests.api.helpers import tiny

ROOT = Path(__file__).parents[3]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "blocking_client.py"))
TABLE = {"up": "int8-g64", "down": "int4-g64"}


def test_the_blocking_client_is_not_stale() -> None:
    folder = SCRIPT["CLIENT"]
    written = SCRIPT["blocking"]((folder / "asynchronous.py").read_text("utf-8"))
    assert written == (folder / "blocking.py").read_text("utf-8"), "run python .ci/blocking_client.py"
    assert "async" not in written.partition('"""\n')[2]


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type) -> set[str]:
        return {name for name in vars(client) if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)


@pytest.mark.thorough
def test_a_plan_may_be_a_file_or_json(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.json").write_text(json.dumps(TABLE))
    files = dict(export(TABLE, "mlx").files)
    with Client(service) as client:
        Path("plan.json").write_text(
            client.allocate(tiny(), budgets={"effective_bits": 6.5}).model_dump_json()
        )
        for plan in ("table.json", Path("table.json"), json.dumps(TABLE), "plan.json"):
            assert client.export(plan, "mlx").files == files
        assert client.compare(tiny(), "plan.json", "table.json").alike == 2
        with pytest.raises(
            InvalidInputError, match=r"begins with '\{', or the path of a file with the plan; 'pln.json'"
        ):
            client.lint("pln.json", "vllm")


def test_a_front_of_a_service_becomes_the_frame_of_the_library(service: str) -> None:
    pytest.importorskip("pandas")
    with Client(service) as client:
        assert client.frontier(tiny()).to_frame().equals(frontier(tiny()).to_frame())
