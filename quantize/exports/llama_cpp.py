r"""llama.cpp: ``--tensor-type-file`` for ``llama-quantize``.

One ``pattern=type`` per line; the first pattern found in a tensor's name decides. The base type on the command line has
to be a quantized one, else the file is passed over; it is also what tensors outside the file get. Formats with one fp16
scale (and minimum) per 32 weights have exact twins; K-quants round their scales as well and are formats of their own,
which a plan may name (``q4_k``).

Source: llama.cpp, ``src/llama-quant.cpp:llama_tensor_get_type`` and ``tools/quantize/quantize.cpp``; block sizes from
``gguf.GGML_QUANT_SIZES`` (gguf 0.19).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from allocator import Fault, InvalidInputError
from quantize.exports.documents import most_common
from quantize.exports.names import anchored
from quantize.exports.rules import Rules, expression
from quantize.exports.target import ExportTarget, Mask, Sheet, sized
from quantize.formats import StorageFormat, parse_format

TYPES = {
    "q4_0": "int4-g32", "q4_1": "uint4-g32", "q5_0": "int5-g32", "q5_1": "uint5-g32", "q8_0": "int8-g32",
    "f16": "fp16", "bf16": "bf16", "f32": "fp32",
}  # fmt: skip
#: Types without a twin: bits of a code, weights that share a scale, whether zero is code 0.
OWN = {
    name: StorageFormat(name, bits, symmetric=symmetric, group_size=group)
    for name, bits, group, symmetric in (
        ("q2_k", 2, 16, False), ("q3_k", 3, 16, True), ("q4_k", 4, 32, False), ("q5_k", 5, 32, False),
        ("q6_k", 6, 16, True), ("iq1_s", 1, 32, True), ("iq1_m", 1, 16, True), ("iq2_xxs", 2, 32, True),
        ("iq2_xs", 2, 16, True), ("iq2_s", 2, 16, True), ("iq3_xxs", 3, 32, True), ("iq3_s", 3, 32, True),
        ("iq4_nl", 4, 32, True), ("iq4_xs", 4, 32, True), ("tq1_0", 1, 256, True), ("tq2_0", 2, 256, True),
        ("nvfp4", 4, 16, True),
    )
} | {"mxfp4": parse_format("mxfp4")}  # fmt: skip
#: Part of a module path → part of a tensor name, for the Llama and BERT families.
_PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "intermediate.dense": "ffn_up", "output.dense": "ffn_down",
}  # fmt: skip
_WHOLE = {"model.embed_tokens": "token_embd", "lm_head": "output", "embeddings.word_embeddings": "token_embd"}
_BLOCK = re.compile(r"(?:.*\.)?layers?\.(\d+)\.(.+)")
_TENSOR = re.compile(r"blk\.\d+\.\w+|token_embd|output")


def own_name(layer: str) -> str | None:
    """Name of a layer's tensor.

    Args:
        layer: Module path of a Llama- or BERT-like model, or a tensor name without ``.weight``.

    Returns:
        The name in the file; None where it is not known.

    Example:
        >>> own_name("model.layers.3.mlp.down_proj")
        'blk.3.ffn_down.weight'
    """
    if _TENSOR.fullmatch(layer):
        return f"{layer}.weight"
    for end, tensor in _WHOLE.items():
        if layer == end or layer.endswith(f".{end}"):
            return f"{tensor}.weight"
    found = _BLOCK.fullmatch(layer)
    part = _PARTS.get(found[2]) if found else None
    return f"blk.{found[1]}.{part}.weight" if found and part else None


def _render(sheet: Sheet) -> dict[str, str]:
    types = {twin: name for name, twin in TYPES.items()}
    lines = [f"{anchored(name)}={types.get(fmt.name, fmt.name)}" for name, fmt in sheet.formats.items()]
    # Layers that the plan leaves alone would get the base type unless the file says otherwise.
    lines += [f"{anchored(name)}=f16" for name in sheet.alone]
    return {"tensor-types.txt": "\n".join(lines) + "\n"}


def base_type(formats: Mapping[str, StorageFormat]) -> str:
    """The type to name on the command line: the most common one that is quantized.

    Args:
        formats: Formats of the plan.

    Returns:
        Name of the type, as ``llama-quantize`` spells it.
    """
    types = {twin: name for name, twin in TYPES.items()}
    quantized = [fmt for fmt in formats.values() if not fmt.floating]
    common = most_common(quantized).name if quantized else "int8-g32"
    return types.get(common, common).upper()


def _parse(files: Mapping[str, str]) -> Rules:
    name = next((name for name in files if name.endswith(".txt")), None)
    if name is None:
        raise InvalidInputError(Fault("", f"expected a .txt file, got {', '.join(files) or 'nothing'}"))
    rules = []
    for number, line in enumerate(files[name].splitlines(), start=1):
        for token in line.split():
            pattern, equals, kind = token.rpartition("=")
            if not equals or not pattern:
                raise InvalidInputError(
                    Fault(f"/{name}", f"line {number}: expected pattern=type, got {token!r}")
                )
            fmt = _format(kind.lower(), f"/{name}", number)
            rules.append(expression(pattern.lower(), fmt, "search", f"/{name}", pattern))
    return Rules(tuple(rules))


def _format(kind: str, where: str, number: int) -> StorageFormat:
    if kind in OWN:
        return OWN[kind]
    if kind not in TYPES:
        known = ", ".join([*TYPES, *OWN])
        raise InvalidInputError(Fault(where, f"line {number}: unknown type {kind!r}; known: {known}"))
    return parse_format(TYPES[kind])


TARGET = ExportTarget(
    mask=Mask(
        symmetric=sized((4, 5, 8), 32),
        asymmetric=sized((4, 5), 32),
        named=frozenset({"fp16", "bf16", "fp32"}),
    ),
    render=_render,
    parse=_parse,
    own_name=own_name,
    layer_name=lambda tensor: tensor.removesuffix(".weight"),
    formats=OWN,
    stand_ins=("q2_k", "q3_k", "q6_k"),
    advice="llama-quantize --tensor-type-file tensor-types.txt in.gguf out.gguf Q4_0 (any quantized type: it is the "
    "base for tensors that the file does not name; not F16, which passes the file over)",
)
