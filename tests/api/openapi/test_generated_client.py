"""A client that a stranger's generator writes from our document plans against a real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GENERATOR = "openapi-python-client==0.29.1"

#: What a program with the generated client does: it plans, and asks for the plan again.
PROGRAM = """
import json, sys
from generated import models
from generated.api.allocations import get_allocations_id, post_allocations
from generated.client import AuthenticatedClient

client = AuthenticatedClient(base_url=sys.argv[1], token="none")
fields = {"profile": json.load(open(sys.argv[2])), "objective": "fisher", "budgets": {"effective_bits": 4.25}}
done = post_allocations.sync(client=client, body=models.AllocationRequest.from_dict(fields))
again = get_allocations_id.sync(id=done.id, client=client)
print(json.dumps([type(done).__name__, done.to_dict(), again.to_dict()]))
"""


def _run(*command: str | Path, folder: Path) -> str:
    path = f"{folder / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=600, cwd=folder, env={"PATH": path}
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.rare
def test_a_generated_python_client_runs_a_plan(service: str, tmp_path: Path) -> None:
    _run(sys.executable, "-m", "venv", tmp_path / "env", folder=tmp_path)
    tools = tmp_path / "env" / "bin"
    _run(tools / "python", "-m", "pip", "install", "--quiet", GENERATOR, folder=tmp_path)
    document = ROOT / "docs" / "openapi.json"
    _run(  # a warning is an operation or a model that the generator leaves out
        tools / "openapi-python-client", "generate", "--path", document, "--output-path", "generated",
        "--meta", "none", "--fail-on-warning", folder=tmp_path,
    )  # fmt: skip
    _run(tools / "python", "-m", "compileall", "-q", "generated", folder=tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    printed = _run(
        tools / "python", "program.py", service, ROOT / "examples" / "minilm.json", folder=tmp_path
    )
    kind, plan, again = json.loads(printed)
    assert kind == "StoredAllocation"
    assert plan["status"] == "optimal"
    assert plan["usage"]["effective_bits"]["used"] <= 4.25
    assert again == plan
