"""GGUF: one file for llama.cpp, each tensor in a type of its own.

``int4-g32``, ``int5-g32`` and ``int8-g32`` have exactly the layout of Q4_0, Q5_0 and Q8_0: signed codes and one
half-precision scale per 32 weights. The file holds the codes of :mod:`quantize.rounding.nearest`, or of any other
rounding, bit for bit, and not those that ``llama-quantize`` would choose; ``mxfp4`` is MXFP4, likewise. All other types
(K-quants, i-quants, Q4_1, Q5_1, NVFP4) hold ggml's own codes (:mod:`quantize.ggml.codes`), and rows that are no whole
blocks the type that ``llama-quantize`` falls back to. With a rounding other than ``nearest`` the moments are their
importance matrix.

Source: the block layouts of ``ggml-common.h``; written and checked with the ``gguf`` package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allocator import InvalidInputError, Profile
from allocator.contract.errors import require
from quantize.backends.gguf.decoder_checkpoint import ARCHITECTURES, Source, read_config, sources, write_facts
from quantize.backends.gguf.rotary_positions import divisors_of
from quantize.backends.gguf.vocabulary import vocabulary_of, write_vocabulary
from quantize.formats import StorageFormat
from quantize.ggml.codes import codes, require_type
from quantize.ggml.types import TYPES as BLOCK_TYPES
from quantize.ggml.types import fitting
from quantize.lint.gate import findings_of, require_readable
from quantize.lint.model import Model
from quantize.llama_types import OWN
from quantize.plain_floats import PLAIN_FLOATS
from quantize.plan import faults_at, profile_faults, require_layers
from quantize.rounding.methods import NEAREST, Rounding, importances, moment_faults, rounded
from quantize.rounding.moments import Moments
from quantize.rounding.nearest import Float32Array, round_trip
from quantize.rounding.packing import packed
from quantize.rounding.quantized import Quantized
from quantize.rounding.small_floats import bit_patterns, exponents, scaled
from quantize.storage.files import replacing, require_free

_Bytes = NDArray[np.uint8]
_BLOCK = 32
_INTEGERS = {"int4-g32": "Q4_0", "int5-g32": "Q5_0", "int8-g32": "Q8_0"}
_STORED = {"F16": "fp16", "BF16": "bf16"}
#: StorageFormat → type of a tensor.
TYPES = {
    **_INTEGERS,
    **{name: name.upper() for name in OWN},
    **{name: kind.stored_as for name, kind in PLAIN_FLOATS.items()},
}


def apply(
    model: str | Path,
    plan: Mapping[str, StorageFormat],
    *,
    path: str | Path,
    rounding: Rounding = NEAREST,
    moments: Moments | None = None,
    profile: Profile | None = None,
    vocabulary: bool = True,
    force: bool = False,
) -> Path:
    """Write a checkpoint as a GGUF file.

    Args:
        model: Folder with ``config.json`` of a Llama, Mistral, Qwen 2 or Qwen 3, and ``*.safetensors``; it is not
            changed. Windows of attention are not carried over.
        plan: Layer name to format, one of :data:`TYPES`. Rows have to be whole blocks of 32; of types with larger
            blocks other rows become what ``llama-quantize`` makes of them. Other matrices keep their precision,
            vectors are stored in single precision.
        path: File to write; it appears whole or not at all.
        rounding: How codes are chosen.
        moments: Layer name to second moment of its inputs, for roundings that use them and for types that need them.
        profile: What the plan was made from: then sizes of layers and units are checked against it.
        vocabulary: Whether the file gets the vocabulary and the chat template of ``tokenizer.json``, where the folder
            has one; without, it takes and gives numbers of tokens.
        force: Whether an earlier file may be replaced, and what llama.cpp does not load may be written.

    Returns:
        ``path``.

    Raises:
        InvalidInputError: The file exists, the checkpoint is of another architecture, a layer is not in it, its format
            is not a type of llama.cpp, its moment does not fit, or the tokenizer is of an unknown kind; nothing was
            written.
        MissingPackageError: gguf is not installed, or ggml, where a type is ggml's.
    """
    gguf = require("gguf", "gguf")
    for name in dict.fromkeys(fmt.name for fmt in plan.values()):
        if name in BLOCK_TYPES:
            require_type(BLOCK_TYPES[name])
    require_free(Path(path), force=force)
    config = read_config(Path(model))
    found = sources(Path(model), config)
    words = vocabulary_of(Path(model), config["vocab_size"]) if vocabulary else None
    weights = {
        name.removesuffix(".weight"): item for name, item in found.items() if len(item.stored.shape) == 2
    }
    require_layers(plan, weights)
    faults = [
        fault
        for layer, fmt in plan.items()
        for fault in faults_at(layer, weights[layer].load(), fmt, _unsupported(weights[layer], fmt))
    ]
    shapes = {layer: weights[layer].stored.shape for layer in plan}
    if not faults:
        require_readable(findings_of(plan, Model(shapes), "gguf"), insist=force)
    faults += moment_faults(shapes, plan, rounding, moments) + profile_faults(plan, shapes, profile)
    if faults:
        raise InvalidInputError(*faults)
    with replacing(Path(path)) as partial:
        writer = gguf.GGUFWriter(partial, ARCHITECTURES[config["model_type"]].name)
        try:
            write_facts(writer, config)
            if words is None:
                writer.add_tokenizer_model("no_vocab")
            else:
                write_vocabulary(writer, words)
            divisors = divisors_of(config)
            if divisors is not None:
                writer.add_tensor("rope_freqs.weight", divisors)
            for name, source in found.items():
                layer = name.removesuffix(".weight")
                fmt = plan.get(layer) if len(source.stored.shape) == 2 else None
                data, kind = _stored(source, fmt, rounding, (moments or {}).get(layer))
                writer.add_tensor(source.name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return Path(path)


def _unsupported(source: Source, fmt: StorageFormat) -> str | None:
    if fmt.name not in TYPES:
        return f"the gguf backend has {', '.join(TYPES)}; {fmt.name!r} is not one of them"
    row = source.stored.shape[1]
    if not fmt.plain and fmt.codec is None and row % _BLOCK:
        return f"llama.cpp needs rows of whole blocks of {_BLOCK}, which {row} is not; {fmt.name!r} cannot be"
    return None


def _stored(
    source: Source,
    fmt: StorageFormat | None,
    rounding: Rounding,
    moment: Any,  # noqa: ANN401 - anything numpy reads
) -> tuple[NDArray[Any], str]:
    weight = source.load()
    if fmt is None:
        # llama.cpp computes norms in single precision and asserts that they are stored so.
        name = _STORED.get(source.stored.dtype, "fp32") if weight.ndim > 1 else "fp32"
        return _plain(weight, name)
    if fmt.codec is not None:
        return _blocks(weight, fmt, rounding, moment)
    if fmt.plain:
        return _plain(round_trip(weight, fmt), fmt.name)
    if fmt.floating:
        return _microscaled(weight, fmt), TYPES[fmt.name]
    made = rounded(weight, fmt, rounding, moment)
    return _PACKED[fmt.bits](made).reshape(len(weight), -1), TYPES[fmt.name]


def _blocks(
    weight: Float32Array,
    fmt: StorageFormat,
    rounding: Rounding,
    moment: Any,  # noqa: ANN401 - anything numpy reads
) -> tuple[_Bytes, str]:
    parts = importances(weight.shape, fmt, rounding, moment)
    pieces = np.split(weight, len(parts))
    made = [codes(piece, fmt.name, part) for piece, part in zip(pieces, parts, strict=True)]
    return np.concatenate(made), fitting(fmt.name, weight.shape[1]).name.upper()


def _plain(weight: Float32Array, name: str) -> tuple[NDArray[Any], str]:
    kind = PLAIN_FLOATS[name]
    array = weight.astype(kind.dtype)
    return (array.view(np.uint8) if name == "bf16" else array), kind.stored_as


def _scales(made: Quantized) -> _Bytes:
    return made.scales[..., None].view(np.uint8)  # (rows, groups, 2)


def _halves(codes: _Bytes) -> _Bytes:
    # A byte holds a code of the first half of the block below one of the second.
    return codes[..., : _BLOCK // 2] | codes[..., _BLOCK // 2 :] << np.uint8(4)


def _q4_0(made: Quantized) -> _Bytes:
    codes = (made.codes + 8).astype(np.uint8)
    return np.concatenate([_scales(made), _halves(codes)], axis=-1)


def _q5_0(made: Quantized) -> _Bytes:
    codes = (made.codes + 16).astype(np.uint8)
    return np.concatenate([_scales(made), packed(codes >> 4, 1), _halves(codes & np.uint8(15))], axis=-1)


def _q8_0(made: Quantized) -> _Bytes:
    return np.concatenate([_scales(made), made.codes.astype(np.int8).view(np.uint8)], axis=-1)


_PACKED: dict[int, Callable[[Quantized], _Bytes]] = {4: _q4_0, 5: _q5_0, 8: _q8_0}


def _microscaled(weight: Float32Array, fmt: StorageFormat) -> _Bytes:
    made = scaled(weight, fmt)
    blocks = np.concatenate([exponents(made)[..., None], _halves(bit_patterns(made))], axis=-1)
    return blocks.reshape(len(weight), -1)
