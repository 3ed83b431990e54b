"""The notebooks run from clean, draw what they promise, and are the scripts beside them."""

from __future__ import annotations

import ast
import runpy
from base64 import b64decode
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
PAIR: dict[str, Any] = runpy.run_path(str(FOLDER / "pair.py"))
#: Pictures that each notebook shows.
PICTURES = {
    "1_quick_start": 1,
    "2_exploring_fronts": 3,
    "3_which_estimator": 4,
    "4_two_budgets": 2,
    "5_plan_to_runtime": 3,
    "6_the_service": 3,
}
#: They measure real models, or wait for a job.
SLOW = {"1_quick_start", "3_which_estimator", "4_two_budgets", "5_plan_to_runtime", "6_the_service"}
#: What a notebook finds above its folder.
AROUND = ("benchmarks", "examples")


def test_every_notebook_is_known_here() -> None:
    assert [path.stem for path in PAIR["scripts"]()] == list(PICTURES)
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_a_notebook_is_its_script_without_outputs(name: str) -> None:
    committed = (FOLDER / f"{name}.ipynb").read_text("utf-8")
    assert committed == PAIR["text"](FOLDER / f"{name}.py"), "run `make notebooks`"
    cells = nbformat.reads(committed, as_version=4).cells  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.parametrize("name", PICTURES)
def test_a_notebook_begins_with_what_it_is_and_what_it_needs(name: str) -> None:
    script = (FOLDER / f"{name}.py").read_text("utf-8")
    assert script.startswith("# %% [markdown]\n# # ")
    assert "pip install" in script.partition("\n# %%\n")[0]
    ast.parse(script)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else []) for name in PICTURES]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::ResourceWarning")
def test_a_notebook_runs_from_clean(name: str, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    for item in AROUND:
        (tmp_path / item).symlink_to(ROOT / item)
    notebook = PAIR["notebook"](FOLDER / f"{name}.py")
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path / "notebooks"}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(shown) == PICTURES[name]
    assert all(len(output.data["image/png"]) > 10_000 for output in shown)
    if name == "2_exploring_fronts":
        _slider_moved_the_strip(notebook)


def _slider_moved_the_strip(notebook: Any) -> None:
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    (slider,) = [item["state"] for item in widgets.values() if item["model_name"] == "FloatSliderModel"]
    assert slider["value"] == 6.0
    (strip,) = [item for item in widgets.values() if item["model_name"] == "ImageModel"]
    (picture,) = [buffer["data"] for buffer in strip["buffers"] if buffer["path"] == ["value"]]
    assert b64decode(picture).startswith(b"\x89PNG")
    assert len(picture) > 10_000
