"""What the report says about measured rows, in words and in tables."""

from __future__ import annotations

import pytest

from api.demo.report import Report, Row, as_markdown, findings, original


def _row(method: str, distance: float, *, bits: float = 3.25, predicted: float = 0.2, **more: object) -> Row:
    return Row.model_validate(
        {
            "budget_bits": bits,
            "method": method,
            "backend": "torchao",
            "used_bits": bits - 0.004,
            "weight_bytes": 1_234_567,
            "predicted": predicted,
            "gap": 0.0,
            "distance": distance,
            "recall_at_1": 0.75,
            "mrr": 0.8125,
            "latency_ratio": 1.5,
            **more,
        }
    )


ROWS = (
    _row("uniform", 0.31, bits=2.5),
    _row("greedy", 0.22, bits=2.5),
    _row("bitalloc", 0.21, bits=2.5),
    _row("uniform", 0.11, bits=6.0),
    _row("bitalloc", 0.12, bits=6.0),
    _row("bitalloc", 0.13, bits=6.0, backend="onnxruntime", file_bytes=9_876_543, latency_ratio=0.456),
)
REPORT = Report(
    model="a model",
    rows=ROWS,
    original_recall_at_1=0.9,
    original_mrr=0.95,
    fp32_file_bytes=90_000_000,
    fp32_latency_ms=12.345,
    seconds={"measure": 61.26, "plan": 0.5},
    findings=("first sentence.", "second sentence."),
)


def test_a_shorter_distance_is_better_by_so_much() -> None:
    assert findings([_row("uniform", 0.2), _row("greedy", 0.19), _row("bitalloc", 0.15)]) == (
        "3.25 bits: bitalloc moves the embeddings 0.1500, uniform 0.2000, 25% less.",
    )


@pytest.mark.parametrize("distance", [0.2, 0.25])
def test_a_promise_that_was_not_kept_is_not_better_because_costs_do_not_add_up(distance: float) -> None:
    (sentence,) = findings([_row("uniform", 0.2, predicted=0.3), _row("bitalloc", distance, predicted=0.1)])
    assert (
        ": NOT BETTER; the table promised 0.1000 against 0.3000, so costs of single layers do not" in sentence
    )
    assert sentence.endswith("measure again around this plan.")


@pytest.mark.parametrize("predicted", [0.3, 0.35])
def test_where_the_table_sees_nothing_better_it_is_not_better_because_of_that(predicted: float) -> None:
    rows = [_row("uniform", 0.2, predicted=0.3), _row("bitalloc", 0.2, predicted=predicted)]
    (sentence,) = findings(rows)
    assert sentence.endswith(": NOT BETTER; the table itself sees no better plan at this size.")


@pytest.mark.parametrize(("bits", "claim"), [(5.99, "NOT BETTER;"), (6.0, "no better;"), (8.0, "no better;")])
def test_from_six_bits_on_nothing_is_claimed(bits: float, claim: str) -> None:
    (sentence,) = findings([_row("uniform", 0.1, bits=bits), _row("bitalloc", 0.1, bits=bits)])
    assert sentence.startswith(f"{bits:g} bits: ")
    assert claim in sentence


def test_a_win_above_six_bits_is_a_win() -> None:
    (sentence,) = findings([_row("uniform", 0.2, bits=6.0), _row("bitalloc", 0.1, bits=6.0)])
    assert sentence.endswith("50% less.")


def test_there_is_one_sentence_per_budget_in_order() -> None:
    sentences = findings(row for row in ROWS if row.backend == "torchao")
    assert [sentence.split(":")[0] for sentence in sentences] == ["2.5 bits", "6 bits"]
    assert "32% less" in sentences[0]
    assert "no better" in sentences[1]


def test_the_page_has_every_row_every_finding_and_every_stage() -> None:
    lines = as_markdown(REPORT).splitlines()
    assert lines[0] == "# a model"
    table = [line for line in lines if line.startswith(("| 2.5 ", "| 6 "))]
    assert len(table) == len(ROWS)
    assert table[0] == "| 2.5 | uniform | torchao | 2.496 | 1,234,567 |  | 0.3100 | 0.750 | 0.812 | 1.50 × |"
    assert table[-1] == (
        "| 6 | bitalloc | onnxruntime | 5.996 | 1,234,567 | 9,876,543 | 0.1300 | 0.750 | 0.812 | 0.46 × |"
    )
    assert f"- {original(REPORT)}" in lines
    assert "- first sentence." in lines
    assert "- second sentence." in lines
    assert "| measure | 61.3 |" in lines
    assert "| plan | 0.5 |" in lines
