"""``bitalloc apply``: a plan made real as a file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from allocator import Allocation, Fault, InvalidInputError
from allocator.errors import decoded, faults_of, require, unknown
from api.cli.parsing import require_writable
from quantize import formats_of
from quantize.backends import onnxruntime

_BACKENDS = ("onnxruntime",)


def command(
    plan: Annotated[Path, typer.Argument(help="Allocation, as written by `bitalloc solve --out`.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("model.onnx"),
    model: Annotated[
        Path | None, typer.Option(help="Folder of the transformers encoder; all-MiniLM-L6-v2 when absent.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="Runtime to write for: `onnxruntime` (2, 4 and 8 bits, fp16).")
    ] = "onnxruntime",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Quantize a sentence encoder as a plan says.

    Example: `bitalloc apply plan.json --out model.onnx`

    The torchao backend makes a module in memory rather than a file: use `quantize.apply` from Python.
    """  # noqa: DOC501 - the docstring is the help text
    if backend not in _BACKENDS:
        raise InvalidInputError(Fault("--backend", unknown(backend, _BACKENDS, "file backend")))
    allocation = read_allocation(plan)
    onnxruntime.require_supported(formats_of(allocation))
    require_writable(out)
    require("torch", "onnx")
    from quantize import apply
    from sensitivity.text_encoder import load_text_encoder
    from sensitivity.text_export import export_encoder

    encoder, tokenizer = load_text_encoder(model)
    with tempfile.TemporaryDirectory() as folder:
        layers = list(allocation.assignment or {})
        source = export_encoder(encoder, tokenizer, Path(folder) / "fp32.onnx", layers)
        apply(source, allocation, backend, path=out)
        before, after = source.stat().st_size, out.stat().st_size
    result = {"path": str(out), "bytes": after, "fp32_bytes": before}
    typer.echo(
        json.dumps(result)
        if as_json
        else f"{out}: {after:,} bytes, {before / after:.1f} times smaller than fp32"
    )


def read_allocation(path: Path) -> Allocation:
    """Read an allocation.

    Args:
        path: JSON file.

    Returns:
        The allocation.

    Raises:
        InvalidInputError: The file cannot be read or does not hold an allocation.
    """
    from pydantic import ValidationError

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(Fault("", f"cannot read the plan {str(path)!r}: {error.strerror}")) from error
    try:
        return Allocation.model_validate_json(content)
    except ValidationError as error:
        raise InvalidInputError(*faults_of(error.errors(), decoded(content))) from error
