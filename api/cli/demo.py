"""``bitalloc demo``: the whole loop on a real model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.parsing import Force, require_outputs
from api.cli.terminal import print_json


def command(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
    pairs: Annotated[
        int, typer.Option(help="Docstring pairs, half to calibrate and half to evaluate.", min=40)
    ] = 500,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    force: Force = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON and nothing else.")
    ] = False,
) -> None:
    """Measure all-MiniLM-L6-v2, plan four sizes over HTTP, quantize for real, and measure again.

    Example: `bitalloc demo --out out`

    Takes a few minutes on two cores and writes the profile, every plan, a quantized ONNX file, the report and a
    picture of the trade-off.
    """
    from api.demo import check_packages

    check_packages()
    from api.cli.parsing import write
    from api.demo.run import results, run

    require_outputs([("--out", path) for path in results(out)], force=force)
    report = run(out, pairs=pairs, seed=seed, write=write, quiet=as_json)
    if as_json:
        print_json(report.model_dump_json(indent=2))
