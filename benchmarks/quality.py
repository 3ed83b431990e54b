"""What plans are worth when they are measured: one-shot plans, ``refine`` and its rivals at equal bytes.

``python -m benchmarks.quality optimum|language|encoder|peers|speed [--out out]``. See ``docs/benchmarks.md``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from allocator import MissingPackageError
from allocator.contract.errors import unknown
from benchmarks import quality_models, quality_optimum
from benchmarks.llamacpp import find_llamacpp
from benchmarks.models.cache import one_thread
from benchmarks.peers import measured, registry
from benchmarks.peers.question import Question
from benchmarks.quality_speed import Speed, measured_speed
from benchmarks.speed_llamacpp import llamacpp_llama
from benchmarks.speed_onnxruntime import onnxruntime_stack

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_Out = Annotated[Path | None, typer.Option(help="Folder to write results to, as JSON.")]
_Seeds = Annotated[int, typer.Option(help="Seeds of each search.", min=1)]
_Evaluations = Annotated[int, typer.Option(help="Plans that each search may measure.", min=4)]


_Bits = Annotated[str, typer.Option(help="Budgets, effective bits.")]
_ALL_BITS = ",".join(f"{bits:g}" for bits in quality_models.BUDGETS)


@app.command()
def optimum(seeds: _Seeds = 3, out: _Out = None) -> None:
    """Regret against the true optimum: the digits network, all 15,625 plans measured."""
    with one_thread():
        for on in ("held-out", "calibration"):
            found = quality_optimum.regrets(on, seeds)
            title = f"measured KL on {on} digits ÷ the true optimum"
            _show(title, quality_optimum.BUDGETS, found, out, f"optimum-{on}", worst=True)


@app.command()
def language(
    evaluations: _Evaluations = 60, seeds: _Seeds = 1, bits: _Bits = _ALL_BITS, out: _Out = None
) -> None:
    """The small Llama: KL and perplexity at equal bytes."""
    _models(quality_models.language, bits, evaluations, seeds, out)


@app.command()
def encoder(
    evaluations: _Evaluations = 40, seeds: _Seeds = 1, bits: _Bits = _ALL_BITS, out: _Out = None
) -> None:
    """all-MiniLM-L6-v2: embedding distance and recall@1 at equal bytes."""
    _models(quality_models.encoder, bits, evaluations, seeds, out)


@app.command()
def speed(
    runtimes: Annotated[
        str, typer.Option(help="Which to measure, separated by commas.")
    ] = "onnxruntime,llama.cpp",
    llamacpp: Annotated[str, typer.Option(help="A Python that has llama_cpp.")] = sys.executable,
    evaluations: _Evaluations = 12,
    out: _Out = None,
) -> None:
    """ONNX Runtime at batch 1, and llama.cpp decoding: latency budgets, foreseen and measured. On a quiet machine.

    Raises:
        BadParameter: There is no such runtime.
    """
    chosen = runtimes.split(",")
    strange = [name for name in chosen if name not in ("onnxruntime", "llama.cpp")]
    if strange:
        raise typer.BadParameter(unknown(strange[0], ("onnxruntime", "llama.cpp"), "runtime"))
    try:
        found = find_llamacpp(llamacpp) if "llama.cpp" in chosen else None
    except MissingPackageError as error:
        raise typer.BadParameter(f"{error}; or measure --runtimes onnxruntime") from error
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder, one_thread():
            runtime = (
                llamacpp_llama(found, Path(folder))
                if name == "llama.cpp" and found
                else onnxruntime_stack(Path(folder))
            )
            result = measured_speed(runtime, evaluations)
        _show_speed(name, result)
        _write(out, f"speed-{name}", asdict(result))


def _show_speed(name: str, result: Speed) -> None:
    console = Console(width=140)
    uniform = Table("format for all", "µs", "per second", "loss", title=f"{name}: uniform plans")
    for fmt, time in result.uniform_us.items():
        uniform.add_row(fmt, f"{time:.0f}", f"{1e6 / time:.0f}", f"{result.uniform_loss[fmt]:.4g}")
    table = Table(
        "budget, µs", "foreseen", "at first", "measured", "error", "loss", "best uniform within", "its loss", "ratio",
        "plan", title=f"{name}: plans within a latency",
    )  # fmt: skip
    for item in result.planned:
        theirs = result.uniform_loss[item.uniform]
        counts = Counter(item.plan.values())
        table.add_row(
            *(f"{us:.0f}" for us in (item.budget_us, item.foreseen_us, item.foreseen_at_first_us, item.measured_us)),
            f"{item.error:+.1%}", f"{item.loss:.4g}", item.uniform, f"{theirs:.4g}", f"{item.loss / theirs:.3f}",
            ", ".join(f"{count} {fmt}" for fmt, count in counts.items()),
        )  # fmt: skip
    console.print(uniform)
    console.print(table)


@app.command()
def peers(
    only: Annotated[list[str] | None, typer.Option(help="Names of peers; all when absent.")] = None,
    evaluations: Annotated[int, typer.Option(help="Plans that refine may measure.", min=0)] = 0,
    out: _Out = None,
) -> None:
    """Other tools' plans and ours in the same bytes; each tool is installed on first use."""
    asked = registry.PEERS.chosen(only or tuple(registry.PEERS))
    with one_thread():
        subject = measured.minilm(registry.FORMATS)
        for name, peer in asked.items():
            found: list[measured.Row] = []
            for question in peer.questions:
                answer = measured.ask(peer, question, subject)
                found += measured.rows(name, question, answer, subject, evaluations)
                _show_peer(f"{peer.owner.name} {answer.version}, {answer.seconds:.0f} s", found, question)
            _write(out, f"peers-{name}", [asdict(row) for row in found])


def _show_peer(title: str, rows: Sequence[measured.Row], question: Question) -> None:
    shown = [row for row in rows if row.formats == question.formats]
    for on in ("seen", "held_out"):
        planners = list(getattr(shown[0], on))
        table = Table(
            "method", "asked", "bytes", *planners, title=f"{title}: {', '.join(question.formats)}, {on}"
        )
        for row in shown:
            values = [f"{getattr(row, on)[planner]:.4g}" for planner in planners]
            table.add_row(row.method, f"{row.asked:g}", f"{row.budget_bytes:.0f}", *values)
        Console(width=140).print(table)


def _models(
    compared: Callable[[Sequence[float], int, int], quality_models.Tables],
    bits: str,
    evaluations: int,
    seeds: int,
    out: Path | None,
) -> None:
    budgets, name = tuple(map(float, bits.split(","))), compared.__name__
    with one_thread():
        tables = compared(budgets, evaluations, seeds)
    for title, rows in tables.items():
        _show(title, budgets, rows, None, name)
    _write(out, name, tables)


def _show(
    title: str,
    budgets: Sequence[float],
    rows: Mapping[str, Sequence[float]],
    out: Path | None,
    name: str,
    *,
    worst: bool = False,
) -> None:
    columns = [f"{bits:g}" for bits in budgets] + (["mean", "worst"] if worst else [])
    table = Table("method", *columns, title=title)
    for method, values in rows.items():
        more = [float(np.exp(np.log(values).mean())), max(values)] if worst else []
        table.add_row(method, *(f"{value:.4g}" for value in [*values, *more]))
    Console(width=140).print(table)
    _write(out, name, rows)


def _write(out: Path | None, name: str, result: object) -> None:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app()
