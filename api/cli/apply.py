"""``bitalloc apply``: a plan made real as a file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from allocator import Allocation, Fault, InvalidInputError, load_profile
from allocator.contract.errors import decoded, faults_of, require, unknown
from api.cli.parsing import require_writable
from api.cli.runtimes import runtime_of, say_ignored, say_unreadable
from api.cli.server import HERE, Server, stored_plan
from quantize import Rounding, apply, formats_of
from quantize.backends.onnxruntime import apply as onnxruntime
from quantize.checkpoints.safetensors import open_checkpoint
from quantize.lint import model_of_folder
from quantize.lint.gate import findings_of
from quantize.rounding.moments import read_moments
from quantize.storage.files import require_free

_BACKENDS = ("onnxruntime", "compressed-tensors", "gguf")
_OUT = {"onnxruntime": "model.onnx", "compressed-tensors": "packed", "gguf": "model.gguf"}
_ORIGINAL = {"onnxruntime": "fp32", "compressed-tensors": "checkpoint", "gguf": "checkpoint"}


def command(
    context: typer.Context,
    plan: Annotated[
        Path,
        typer.Argument(
            help="Allocation, as written by `bitalloc solve --out`, or with `--server` the id of one."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder to write; model.onnx, packed/ or model.gguf when absent."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the model: a transformers encoder for `onnxruntime` (all-MiniLM-L6-v2 when absent), any "
            "safetensors checkpoint for `compressed-tensors`, one of Llama, Mistral or Qwen for `gguf`."
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="Runtime to write for: `onnxruntime` (2, 4 and 8 bits, fp16), `compressed-tensors` (1 to 8 bits, "
            "8-bit floats, MX formats and int8-dynamic, for vLLM, SGLang and transformers) or `gguf` (int4-g32, "
            "int5-g32, int8-g32, mxfp4, fp16, bf16, for llama.cpp)."
        ),
    ] = "onnxruntime",
    rounding: Annotated[
        str,
        typer.Option(
            help="How codes are chosen: `nearest`, `scale_search` (the scale of each group with the least squared "
            "error) or `gptq` (errors are made up for by later columns; needs --moments)."
        ),
    ] = "nearest",
    moments: Annotated[
        Path | None,
        typer.Option(
            help="Second moments of every layer's inputs, a file by `quantize.rounding.moments.write_moments`."
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Profile that the plan was made from: sizes of layers and units are checked against it."
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="The one runtime that has to load the result: `vllm`, `sglang` or `transformers` for "
            "`compressed-tensors`. When absent, the one of --profile, or any."
        ),
    ] = None,
    accuracy_level: Annotated[
        int,
        typer.Option(
            help="For `onnxruntime`: 4 also rounds the inputs of quantized matrices to 8 bits, which is fast; 1 leaves "
            "them in single precision."
        ),
    ] = 4,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace what exists under the name of --out, and write what no runtime would load.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
    ] = False,
) -> None:
    """Quantize a model as a plan says; see docs/backends.md.

    Example: `bitalloc apply plan.json --out model.onnx`
    Example: `bitalloc apply plan.json --backend gguf --model path/to/llama --rounding scale_search`

    The torchao backend makes a module in memory rather than a file: use `quantize.apply` from Python.
    """  # noqa: DOC501 - the docstring is the help text
    if backend not in _BACKENDS:
        raise InvalidInputError(Fault("--backend", unknown(backend, _BACKENDS, "file backend")))
    if runtime is not None and backend != "compressed-tensors":
        detail = f"is for files that several runtimes read; {backend} has one"
        raise InvalidInputError(Fault("--runtime", detail))
    allocation = read_allocation(plan, context.obj)
    formats = formats_of(allocation)
    chosen = Rounding(rounding)
    path = out or Path(_OUT[backend])
    require_free(path, force=force)
    if backend == "onnxruntime":
        onnxruntime.require_supported(formats)
    elif model is None:
        raise InvalidInputError(Fault("--model", f"the {backend} backend needs the folder of a checkpoint"))
    if backend != "compressed-tensors":
        require_writable(path)
    options: dict[str, Any] = {
        "rounding": chosen,
        "moments": read_moments(moments) if moments else None,
        "force": force,
    }
    options["profile"] = load_profile(profile) if profile else None
    if backend == "compressed-tensors":
        options["runtime"] = runtime or runtime_of(options["profile"])
    if backend == "onnxruntime":
        options["accuracy_level"] = accuracy_level
    else:
        assert model is not None
        say_ignored(model)
    before, after = _made(allocation, backend, model, path, options)
    result = {"path": str(path), "bytes": after, f"{_ORIGINAL[backend]}_bytes": before}
    typer.echo(
        json.dumps(result)
        if as_json
        else f"{path}: {after:,} bytes, {before / after:.1f} times smaller than {_ORIGINAL[backend]}"
    )


def _made(
    allocation: Allocation, backend: str, model: Path | None, path: Path, options: dict[str, Any]
) -> tuple[int, int]:
    if backend != "onnxruntime":
        assert model is not None
        apply(model, allocation, backend, path=path, **options)
        if backend == "compressed-tensors":
            say_unreadable(findings_of(formats_of(allocation), model_of_folder(model), backend))
        return _weights_bytes(model), _weights_bytes(path)
    require("torch", "onnx")
    from sensitivity.models.text_encoder import load_text_encoder
    from sensitivity.models.text_export import export_encoder

    encoder, tokenizer = load_text_encoder(model)
    with tempfile.TemporaryDirectory() as folder:
        layers = list(allocation.assignment or {})
        source = export_encoder(encoder, tokenizer, Path(folder) / "fp32.onnx", layers)
        apply(source, allocation, backend, path=path, **options)
        return source.stat().st_size, path.stat().st_size


def _weights_bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in {item.file for item in open_checkpoint(path).tensors.values()})


def read_allocation(path: Path, server: Server = HERE) -> Allocation:
    """Read an allocation.

    Args:
        path: JSON file, from the command or as the service sent it; or the id of a plan that the service keeps.
        server: The service.

    Returns:
        The allocation.

    Raises:
        InvalidInputError: The file cannot be read or does not hold an allocation.
    """
    from pydantic import ValidationError

    from bitalloc.wire import StoredAllocation

    kept = stored_plan(path, server)
    if kept is not None:
        return kept
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(Fault("", f"cannot read the plan {str(path)!r}: {error.strerror}")) from error
    document = decoded(content)
    stored = isinstance(document, dict) and "id" in document
    try:
        return (StoredAllocation if stored else Allocation).model_validate_json(content)
    except ValidationError as error:
        raise InvalidInputError(*faults_of(error.errors(), document)) from error
