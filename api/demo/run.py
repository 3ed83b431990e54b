"""The demo, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from allocator import Allocation, Profile, total
from api.demo.figure import draw_frontier
from api.demo.latency import compare
from api.demo.report import Report, Row, as_markdown, as_table, findings, original
from api.server import running_server
from bitalloc.client import Client
from quantize import apply
from sensitivity.pretrained.docstrings import docstring_pairs
from sensitivity.pretrained.retrieval import Encode, Quality, RetrievalTask
from sensitivity.pretrained.text_encoder import (
    TextEncoder,
    Tokenizer,
    encode,
    load_text_encoder,
    minilm_folder,
)
from sensitivity.pretrained.text_export import export_encoder, onnx_encoder
from sensitivity.profiling.encoder_profile import profile_encoder
from sensitivity.profiling.progress import Bars
from sensitivity.study.study import Progress

MODEL = "all-MiniLM-L6-v2"
FORMATS = ("int2-g64", "int3-g64", "int4-g64", "int8-g64", "fp16")
#: What ONNX Runtime runs packed on a CPU.
PACKED = ("int2-g64", "int4-g64", "int8-g64")
BUDGETS_BITS = (2.5, 3.25, 4.25, 6.0)
OBJECTIVE = "embedding_distance"
METHODS = {"uniform": "uniform", "greedy": "greedy", "bitalloc": "exact"}
Write = Callable[[Path, str], None]
_MAX_TOKENS = 48
_TABLE_WIDTH = 100
_QUERY = "Return the path of the file that was written."


def run(out: Path, *, pairs: int, seed: int, write: Write, quiet: bool = False) -> Report:
    """Run the demo and write its results.

    Args:
        out: Folder for the profile, the plans, the ONNX file, the report and the picture.
        pairs: Docstring pairs, half to calibrate and half to evaluate.

    Returns:
        The report.
    """
    console = Console(stderr=quiet, quiet=quiet)
    clock = _Clock(console)
    with clock.stage("load the model and the text"):
        encoder, tokenizer = load_text_encoder(minilm_folder(), max_tokens=_MAX_TOKENS)
        data = docstring_pairs(pairs)
        calibration, evaluation = data[0::2], data[1::2]
        full_precision = partial(encode, encoder)
        task = RetrievalTask.of(evaluation, tokenizer, full_precision)
        baseline = task.evaluate(full_precision)
    with clock.stage("measure the profile"), Bars(console, quiet=quiet) as bars:
        profile = profile_encoder(
            encoder, tokenizer, calibration, formats=FORMATS, name=MODEL, probes=6, seed=seed, progress=bars
        )
        write(out / "profile.json", profile.model_dump_json(indent=1) + "\n")
    with clock.stage("plan over HTTP"):
        plans, packed = _plans(profile, out, write)
    with clock.stage("quantize with torchao and measure"), Bars(console, quiet=quiet) as bars:
        rows = _measure_torchao(profile, encoder, tokenizer, task, plans, bars)
    with clock.stage("quantize with ONNX Runtime and measure"), Bars(console, quiet=quiet) as bars:
        source = export_encoder(
            encoder, tokenizer, out / "model-fp32.onnx", [layer.name for layer in profile.layers]
        )
        onnx_rows, fp32_ms = _measure_onnx(profile, source, tokenizer, task, packed, out, bars)
    report = Report(
        model=MODEL,
        rows=(*rows, *onnx_rows),
        original_recall_at_1=baseline.recall_at_1,
        original_mrr=baseline.mrr,
        fp32_file_bytes=source.stat().st_size,
        fp32_latency_ms=fp32_ms,
        seconds=clock.seconds,
        findings=findings(rows),
    )
    _show(report, profile, out, write, console)
    return report


def results(out: Path) -> list[Path]:
    """The files that the demo writes.

    Args:
        out: Folder for them.

    Returns:
        Their paths.
    """
    methods = (*METHODS, "onnxruntime")
    plans = [f"plans/{bits:g}-bits-{method}.json" for bits in BUDGETS_BITS for method in methods]
    models = ["model-fp32.onnx", *(f"model-{bits:g}-bits.onnx" for bits in BUDGETS_BITS)]
    return [
        out / name for name in ("profile.json", *plans, *models, "report.json", "report.md", "frontier.png")
    ]


class _Clock:
    """Times the stages and says which one runs."""

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._console.rule(name, align="left")
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def _plans(
    profile: Profile, out: Path, write: Write
) -> tuple[dict[tuple[float, str], Allocation], dict[float, Allocation]]:
    plans: dict[tuple[float, str], Allocation] = {}
    packed: dict[float, Allocation] = {}
    with running_server() as url, Client(url) as client:
        for bits in BUDGETS_BITS:
            budgets = {"effective_bits": bits}
            for method, solver in METHODS.items():
                plan = plans[bits, method] = client.allocate(
                    profile, objective=OBJECTIVE, budgets=budgets, solver=solver
                )
                write(out / "plans" / f"{bits:g}-bits-{method}.json", plan.model_dump_json(indent=2) + "\n")
            plan = packed[bits] = client.allocate(
                profile, objective=OBJECTIVE, budgets=budgets, allow={"*": PACKED}
            )
            write(out / "plans" / f"{bits:g}-bits-onnxruntime.json", plan.model_dump_json(indent=2) + "\n")
    return plans, packed


def _measure_torchao(
    profile: Profile,
    encoder: TextEncoder,
    tokenizer: Tokenizer,
    task: RetrievalTask,
    plans: dict[tuple[float, str], Allocation],
    progress: Progress,
) -> list[Row]:
    query, original = tokenizer([_QUERY]), partial(encode, encoder)
    measured: dict[tuple[str, ...], tuple[Quality, float]] = {}  # the same plan may serve two budgets
    rows = []
    for step, ((bits, method), plan) in enumerate(plans.items(), start=1):
        assert plan.assignment is not None
        key = tuple(plan.assignment.values())
        if key not in measured:
            changed: Encode = partial(encode, apply(encoder, plan, "torchao"))
            measured[key] = task.evaluate(changed), compare(changed, original, query)[0]
        quality, ratio = measured[key]
        rows.append(_row(profile, bits, method, "torchao", plan, quality, ratio))
        progress("torchao", step, len(plans))
    return rows


def _measure_onnx(
    profile: Profile,
    source: Path,
    tokenizer: Tokenizer,
    task: RetrievalTask,
    plans: dict[float, Allocation],
    out: Path,
    progress: Progress,
) -> tuple[list[Row], float]:
    query, original = tokenizer([_QUERY]), onnx_encoder(source)
    rows, fp32_ms = [], 0.0
    for step, (bits, plan) in enumerate(plans.items(), start=1):
        path = apply(source, plan, "onnxruntime", path=out / f"model-{bits:g}-bits.onnx", force=True)
        changed = onnx_encoder(path)
        ratio, fp32_ms = compare(changed, original, query)
        rows.append(
            _row(
                profile,
                bits,
                "bitalloc",
                "onnxruntime",
                plan,
                task.evaluate(changed),
                ratio,
                path.stat().st_size,
            )
        )
        progress("onnxruntime", step, len(plans))
    return rows, fp32_ms


def _row(
    profile: Profile,
    bits: float,
    method: str,
    backend: str,
    plan: Allocation,
    quality: Quality,
    latency_ratio: float,
    file_bytes: int | None = None,
) -> Row:
    assert plan.assignment is not None
    return Row.model_validate(
        {
            "budget_bits": bits,
            "method": method,
            "backend": backend,
            "used_bits": plan.usage["effective_bits"].used,
            "weight_bytes": round(total(profile, "weight_bytes", plan.assignment)),
            "file_bytes": file_bytes,
            "predicted": plan.objective,
            "gap": plan.gap,
            "distance": quality.distance,
            "recall_at_1": quality.recall_at_1,
            "mrr": quality.mrr,
            "latency_ratio": latency_ratio,
        }
    )


def _show(report: Report, profile: Profile, out: Path, write: Write, console: Console) -> None:
    write(out / "report.json", report.model_dump_json(indent=2) + "\n")
    write(out / "report.md", as_markdown(report))
    draw_frontier(report, profile, out / "frontier.png")
    console.width = max(console.width, _TABLE_WIDTH)  # numbers are never cut
    console.print(as_table(report))
    console.print(f"• {original(report)}", highlight=False)
    for sentence in report.findings:
        console.print(f"• {sentence}", highlight=False)
    total = sum(report.seconds.values())
    console.print(
        ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in report.seconds.items()), highlight=False
    )
    console.print(f"{total:.0f} s in all; results in {out}/ (frontier.png is the picture)", highlight=False)
