"""compressed-tensors: a packed checkpoint that vLLM, SGLang and transformers load.

Codes are packed without gaps into 32-bit words, 1 to 8 bits each, next to the half-precision scales of
:mod:`quantize.rounding.nearest`; 8-bit floats, MX formats and ``int8-dynamic`` are stored as vLLM's kernels for them
want (:mod:`quantize.backends.compressed_tensors.layers`). ``config.json`` gets the ``quantization_config`` that
:mod:`quantize.exports.compressed_tensors` writes. Files are worked through one by one, so that memory holds one of
them, and neither torch nor a model is needed.

A runtime that computes in bfloat16 rounds the scales again as it loads them; serve with ``--dtype float16`` to have
the weights that were planned. Source: compressed-tensors 0.19, ``compressors/pack_quantized``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allocator import InvalidInputError, Profile
from quantize.backends.compressed_tensors.layers import compressed_layer
from quantize.checkpoints.config import read_config, require_original
from quantize.checkpoints.safetensors import (
    Stored,
    Tensor,
    load_weight,
    stored_tensors,
    stored_weights,
    write_tensors,
)
from quantize.exports import export
from quantize.formats import StorageFormat
from quantize.lint.gate import findings_of, require_readable
from quantize.lint.model import model_of_folder
from quantize.plan import faults_at, no_code_for, profile_faults, require_layers, require_whole_units
from quantize.rounding.codes import is_sign
from quantize.rounding.methods import NEAREST, Rounding, moment_faults
from quantize.rounding.moments import Moments
from quantize.runtimes import RUNTIMES
from quantize.runtimes.transformers import HALF_STEP
from quantize.storage.files import replacing_folder, require_free

#: The head of a GPT-NeoX, which transformers calls ``lm_head`` as it loads it, and vLLM does not.
_RENAMED_HEAD = "embed_out"


def apply(
    model: str | Path,
    plan: Mapping[str, StorageFormat],
    *,
    path: str | Path,
    rounding: Rounding = NEAREST,
    moments: Moments | None = None,
    profile: Profile | None = None,
    runtime: str | None = None,
    force: bool = False,
) -> Path:
    """Write a packed copy of a checkpoint.

    Args:
        model: Folder with ``config.json`` and safetensors, of which the index decides; it is not changed.
        plan: Layer name to format: int2 to int8, uint1 to uint8, ``int8-dynamic``, ``fp8-e4m3``, ``mxfp8`` and
            ``mxfp4`` for matrices, in groups that divide the row; fp16, bf16 or fp32 for any weight.
        path: Folder to write; it appears whole or not at all. Other files of the checkpoint (tokenizer, …) are copied.
        rounding: How codes are chosen.
        moments: Layer name to second moment of its inputs, for roundings that use them.
        profile: What the plan was made from: then sizes of layers and units are checked against it.
        runtime: The one runtime that has to load it; one of vLLM, SGLang and transformers has to when absent.
        force: Whether an earlier folder may be replaced, and what no runtime loads may be written.

    Returns:
        ``path``.

    Raises:
        InvalidInputError: The folder exists, the checkpoint cannot be read, a layer is not in it, its format cannot be
            packed or loaded, its moment does not fit, or layers that are fused at load differ; nothing was written.
    """
    source = Path(model)
    require_free(Path(path), force=force)
    config = read_config(source)
    require_original(config, source)
    weights = stored_weights(source)
    require_layers(plan, weights)
    if runtime is None or RUNTIMES.find(runtime).fuses:
        require_whole_units(plan, weights)
    _require_storable(plan, weights, rounding, moments, profile)
    require_readable(findings_of(plan, model_of_folder(source), "compressed-tensors", runtime), insist=force)
    config |= _quantization(plan, weights)
    with replacing_folder(Path(path)) as folder:
        _copy_others(source, folder)
        index: dict[str, str] = {}
        total = 0
        for file, tensors in _by_file(source).items():
            made = _packed_file(tensors, plan, rounding, moments or {})
            write_tensors(folder / file.name, made)
            index |= dict.fromkeys(made, file.name)
            total += sum(len(tensor.data) for tensor in made.values())
        if (source / "model.safetensors.index.json").exists():
            entry = {"metadata": {"total_size": total}, "weight_map": index}
            (folder / "model.safetensors.index.json").write_text(json.dumps(entry, indent=2))
        (folder / "config.json").write_text(json.dumps(config, indent=2))
    return Path(path)


def _require_storable(
    plan: Mapping[str, StorageFormat],
    weights: Mapping[str, Stored],
    rounding: Rounding,
    moments: Moments | None,
    profile: Profile | None,
) -> None:
    faults = [
        fault
        for layer, fmt in plan.items()
        for fault in faults_at(
            layer, load_weight(weights[layer]), fmt, _unsupported(weights[layer].shape, fmt)
        )
    ]
    shapes = {layer: weights[layer].shape for layer in plan}
    faults += moment_faults(shapes, plan, rounding, moments) + profile_faults(plan, shapes, profile)
    if faults:
        raise InvalidInputError(*faults)


def _unsupported(shape: tuple[int, ...], fmt: StorageFormat) -> str | None:
    if fmt.plain:
        return None
    if (foreign := no_code_for(fmt, "compressed-tensors")) is not None:
        return foreign
    if len(shape) != 2:
        return (
            f"compressed-tensors packs matrices; this weight has the shape {shape}, so {fmt.name!r} cannot be"
        )
    if is_sign(fmt):
        return f"{HALF_STEP}; {fmt.name!r} cannot be"
    if shape[1] % (fmt.group_size or 1):
        return f"compressed-tensors needs groups that divide the row; that of {fmt.name} does not divide {shape[1]}"
    return None


def _quantization(plan: Mapping[str, StorageFormat], weights: Mapping[str, Stored]) -> dict[str, Any]:
    if all(fmt.plain for fmt in plan.values()):
        return {}
    # vLLM refuses layers that no rule is about, and a tied output has no weight of its own in the file.
    renamed = _RENAMED_HEAD in plan and not plan[_RENAMED_HEAD].plain
    others = [layer for layer, weight in weights.items() if len(weight.shape) == 2]
    others += [] if renamed else ["lm_head"]
    names = {layer: fmt.name for layer, fmt in plan.items()}
    (text,) = export(names, "compressed-tensors", others=others).files.values()
    content: dict[str, Any] = json.loads(text)
    return _with_both_names(content) if renamed else content


def _with_both_names(content: dict[str, Any]) -> dict[str, Any]:
    own, other = rf"re:^{_RENAMED_HEAD}$", "re:^lm_head$"
    for group in content["quantization_config"]["config_groups"].values():
        if own in group["targets"]:
            group["targets"].append(other)
    return content


def _copy_others(source: Path, folder: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in {".json", ".txt", ".model", ".jinja", ".tiktoken"}:
            shutil.copyfile(file, folder / file.name)


def _by_file(source: Path) -> dict[Path, dict[str, Stored]]:
    found: dict[Path, dict[str, Stored]] = {}
    for name, tensor in stored_tensors(source).items():
        found.setdefault(tensor.file, {})[name] = tensor
    return found


def _packed_file(
    tensors: Mapping[str, Stored], plan: Mapping[str, StorageFormat], rounding: Rounding, moments: Moments
) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = name.removesuffix(".weight")
        if layer == name or layer not in plan:
            made[name] = Tensor(tensor.dtype, tensor.shape, tensor.read())
            continue
        weight = load_weight(tensor)
        made |= compressed_layer(layer, weight, plan[layer], rounding, moments.get(layer))
    return made
