"""``bitalloc apply``: a plan made real as a file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from allocator import Allocation, Fault, InvalidInputError, load_profile
from allocator.contract.errors import require, unknown
from api.cli.calibration import OtherModel, encoder_folder
from api.cli.coverage import say_coverage, say_not_compared
from api.cli.parsing import require_outputs
from api.cli.plans import PLAN, PlanFile, PlanFormat, PlanNames, read_names, read_plan
from api.cli.runtimes import runtime_of, say_ignored, say_unreadable
from quantize import Rounding, apply, formats_of
from quantize.backends.identity import expected_model
from quantize.backends.onnxruntime import apply as onnxruntime
from quantize.checkpoints.matrices import stored_matrices
from quantize.checkpoints.safetensors import open_checkpoint
from quantize.lint import model_of_folder
from quantize.lint.gate import findings_of
from quantize.rounding.moments import read_moments

_BACKENDS = ("onnxruntime", "compressed-tensors", "gguf")
_OUT = {"onnxruntime": "model.onnx", "compressed-tensors": "packed", "gguf": "model.gguf"}
_ORIGINAL = {"onnxruntime": "fp32", "compressed-tensors": "checkpoint", "gguf": "checkpoint"}


def command(
    context: typer.Context,
    plan: PlanFile,
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder to write; model.onnx, packed/ or model.gguf when absent."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the model: a transformers encoder for `onnxruntime`, any "
            "safetensors checkpoint for `compressed-tensors`, one of Llama, Mistral or Qwen for `gguf`."
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="Runtime to write for: `onnxruntime` (2, 4 and 8 bits, fp16), `compressed-tensors` (1 to 8 bits, "
            "8-bit floats, MX formats and int8-dynamic, for vLLM, SGLang and transformers) or `gguf` (int4-g32, "
            "int5-g32, int8-g32, mxfp4, fp16, bf16, and with ggml q4_k and its like, for llama.cpp)."
        ),
    ] = "onnxruntime",
    written_for: PlanFormat = PLAN,
    names: PlanNames = None,
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
    other_model: OtherModel = False,
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
    no_vocabulary: Annotated[
        bool,
        typer.Option(
            "--no-vocabulary",
            help="For `gguf`: leave vocabulary and chat template out; the file takes and gives numbers of tokens.",
        ),
    ] = False,
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

    Example: `bitalloc apply plan.json --model ./my-encoder --out model.onnx`
    Example: `bitalloc apply plan.json --backend gguf --model path/to/llama --rounding scale_search`

    The torchao backend makes a module in memory rather than a file: use `quantize.apply` from Python.
    """
    _require_backend(backend, runtime)
    path = out or Path(_OUT[backend])
    require_outputs((("--out", path),), force=force, folder=backend == "compressed-tensors")
    read = read_plan(
        plan,
        context.obj,
        written_for=written_for,
        layers=None if written_for == PLAN or model is None else list(stored_matrices(model)),
        names=read_names(names),
    )
    formats = formats_of(read)
    if backend == "onnxruntime":
        onnxruntime.require_supported(formats)
    options: dict[str, Any] = {"rounding": Rounding(rounding), "force": force}
    folder = encoder_folder(model)
    options["moments"] = read_moments(moments) if moments else None
    loaded = load_profile(profile) if profile else None
    if backend == "gguf":
        options["vocabulary"] = not no_vocabulary
    if backend == "compressed-tensors":
        options["runtime"] = runtime or runtime_of(loaded)
    if backend == "onnxruntime":
        options["accuracy_level"] = accuracy_level
    else:
        say_ignored(folder)
    if other_model:
        read = read.model_copy(update={"identity": None}) if isinstance(read, Allocation) else read
        loaded = None if loaded is None else loaded.model_copy(update={"identity": None})
    before, after = _made(read, backend, folder, path, options | {"profile": loaded})
    _say(backend, path, before, after, as_json=as_json)
    if not as_json:
        say_coverage(read)
    if not other_model and expected_model(read, loaded) is None:
        say_not_compared("the plan")


def _require_backend(backend: str, runtime: str | None) -> None:
    if backend not in _BACKENDS:
        raise InvalidInputError(Fault("--backend", unknown(backend, _BACKENDS, "file backend")))
    if runtime is not None and backend != "compressed-tensors":
        detail = f"is for files that several runtimes read; {backend} has one"
        raise InvalidInputError(Fault("--runtime", detail))


def _say(backend: str, path: Path, before: int, after: int, *, as_json: bool) -> None:
    original = _ORIGINAL[backend]
    if as_json:
        typer.echo(json.dumps({"path": str(path), "bytes": after, f"{original}_bytes": before}))
    else:
        typer.echo(f"{path}: {after:,} bytes, {before / after:.1f} times smaller than {original}")


def _made(
    plan: Allocation | dict[str, str], backend: str, model: Path, path: Path, options: dict[str, Any]
) -> tuple[int, int]:
    if backend != "onnxruntime":
        apply(model, plan, backend, path=path, **options)
        if backend == "compressed-tensors":
            say_unreadable(findings_of(formats_of(plan), model_of_folder(model), backend))
        return _weights_bytes(model), _weights_bytes(path)
    require("torch", "onnx")
    from sensitivity.pretrained.text_encoder import load_text_encoder
    from sensitivity.pretrained.text_export import export_encoder

    encoder, tokenizer = load_text_encoder(model)
    with tempfile.TemporaryDirectory() as folder:
        layers = list(formats_of(plan))
        source = export_encoder(encoder, tokenizer, Path(folder) / "fp32.onnx", layers)
        apply(source, plan, backend, path=path, **options)
        return source.stat().st_size, path.stat().st_size


def _weights_bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in {item.file for item in open_checkpoint(path).tensors.values()})
