"""A search that says what it measures, to be killed and run again: ``python -m tests.quantize.feedback.resumed``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from quantize.feedback import refine
from tests.quantize.feedback.problems import coupled


def main(journal: str, pause_s: str) -> None:
    profile, loss = coupled()

    def measure(plan: Mapping[str, str]) -> float:
        time.sleep(float(pause_s))
        sys.stdout.write("measured\n")
        sys.stdout.flush()
        return loss(plan)

    found = refine(
        profile, measure, max_evaluations=15, journal=Path(journal), budgets={"effective_bits": 4.0}
    )
    sys.stdout.write(f"{[trial.loss for trial in found.trials]} {found.allocation.assignment}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
