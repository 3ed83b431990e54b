"""What the demo found: one row per plan that was applied and measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from rich.table import Table

from allocator.contract.schema import Strict

#: Below this many effective bits bitalloc has to beat uniform; above, eight bits are as good as full precision.
CLAIM_BELOW_BITS = 6.0


class Row(Strict):
    """One plan, applied and measured on the evaluation pairs.

    Attributes:
        budget_bits: Effective bits allowed.
        method: Who planned it.
        backend: What ran it.
        used_bits: Effective bits of the plan.
        weight_bytes: Exact stored bytes, those outside the plan included.
        file_bytes: Size of the file, where there is one.
        predicted: Objective of the plan in the table it was solved from.
        gap: Proved distance to the optimum of that table.
        distance: Measured mean of 1 - cosine to the original's embeddings.
        recall_at_1: Share of queries that find their document.
        mrr: Mean reciprocal rank.
        latency_ratio: Median latency of one query relative to full precision on the same runtime, batch 1.
    """

    budget_bits: float
    method: Literal["uniform", "greedy", "bitalloc"]
    backend: Literal["torchao", "onnxruntime"]
    used_bits: float
    weight_bytes: int
    file_bytes: int | None = None
    predicted: float
    gap: float
    distance: float
    recall_at_1: float
    mrr: float
    latency_ratio: float


class Report(Strict):
    """Everything the demo measured.

    Attributes:
        model: Name of the model.
        rows: One row per plan.
        original_recall_at_1: Recall of the original model.
        original_mrr: Mean reciprocal rank of the original model.
        fp32_file_bytes: Size of the exported file in single precision.
        fp32_latency_ms: Median latency of one query in ONNX Runtime, single precision, batch 1.
        seconds: Stage to wall clock.
        findings: Sentences about where bitalloc beats uniform, and where and why it does not.
    """

    model: str
    rows: tuple[Row, ...]
    original_recall_at_1: float
    original_mrr: float
    fp32_file_bytes: int
    fp32_latency_ms: float
    seconds: dict[str, float]
    findings: tuple[str, ...]


def findings(rows: Iterable[Row]) -> tuple[str, ...]:
    """Say at which budgets bitalloc beats uniform, and why where it does not.

    Args:
        rows: Measured rows, all on one backend.

    Returns:
        One sentence per budget.
    """
    by_budget: dict[float, dict[str, Row]] = {}
    for row in rows:
        by_budget.setdefault(row.budget_bits, {})[row.method] = row
    return tuple(
        _finding(budget, methods["uniform"], methods["bitalloc"]) for budget, methods in by_budget.items()
    )


def _finding(budget: float, uniform: Row, ours: Row) -> str:
    start = (
        f"{budget:g} bits: bitalloc moves the embeddings {ours.distance:.4f}, uniform {uniform.distance:.4f}"
    )
    if ours.distance < uniform.distance:
        return f"{start}, {1 - ours.distance / uniform.distance:.0%} less."
    if ours.predicted < uniform.predicted:
        reason = (
            f"the table promised {ours.predicted:.4f} against {uniform.predicted:.4f}, so costs of single layers do "
            "not add up here; measure again around this plan"
        )
    else:
        reason = "the table itself sees no better plan at this size"
    claim = "NOT BETTER" if budget < CLAIM_BELOW_BITS else "no better"
    return f"{start}: {claim}; {reason}."


def as_table(report: Report) -> Table:
    """Return the rows as a table for a terminal: budget × method."""
    title = f"{report.model}, measured on the evaluation pairs (MB: all stored weights)"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("bits", "method", "runtime"):
        table.add_column(name, no_wrap=True)
    for name in ("used", "MB", "file", "distance", "recall@1", "latency"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for row in report.rows:
        if before is not None and (row.budget_bits, row.backend) != (before.budget_bits, before.backend):
            table.add_row()
        before = row
        table.add_row(
            f"{row.budget_bits:g}",
            row.method,
            row.backend,
            f"{row.used_bits:.3f}",
            f"{row.weight_bytes / 1e6:.2f}",
            "" if row.file_bytes is None else f"{row.file_bytes / 1e6:.2f}",
            f"{row.distance:.4f}",
            f"{row.recall_at_1:.3f}",
            f"{row.latency_ratio:.2f} ×",
            style="bold" if row.method == "bitalloc" else None,
        )
    return table


_COLUMNS = "bits | method | runtime | used | weight bytes | file bytes | distance | recall@1 | MRR | latency"


def as_markdown(report: Report) -> str:
    """Return the report as a page of Markdown."""
    lines = [f"# {report.model}", "", f"| {_COLUMNS} |", "|---:|---|---|" + "---:|" * 7]
    for row in report.rows:
        cells = (
            f"{row.budget_bits:g}",
            row.method,
            row.backend,
            f"{row.used_bits:.3f}",
            f"{row.weight_bytes:,}",
            "" if row.file_bytes is None else f"{row.file_bytes:,}",
            f"{row.distance:.4f}",
            f"{row.recall_at_1:.3f}",
            f"{row.mrr:.3f}",
            f"{row.latency_ratio:.2f} ×",
        )
        lines.append(f"| {' | '.join(cells)} |")
    stages = (f"| {stage} | {seconds:.1f} |" for stage, seconds in report.seconds.items())
    notes = (f"- {sentence}" for sentence in (original(report), *report.findings))
    return "\n".join([*lines, "", *notes, "", "| stage | seconds |", "|---|---:|", *stages, ""])


def original(report: Report) -> str:
    """Return a sentence about the model that was quantized."""
    return (
        f"The original: recall@1 {report.original_recall_at_1:.3f}, MRR {report.original_mrr:.3f}; as an fp32 ONNX "
        f"file {report.fp32_file_bytes / 1e6:.2f} MB and {report.fp32_latency_ms:.2f} ms per query. Latencies are "
        "relative to fp32 on the same runtime, one query at a time."
    )
