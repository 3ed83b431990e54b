r"""llama.cpp: ``--tensor-type-file`` for ``llama-quantize``.

One ``pattern=type`` per line; the first pattern found in a tensor's name decides. The base type on the command line has
to be a quantized one, else the file is passed over; it is also what tensors outside the file get. Formats with one fp16
scale per 32 weights have exact twins; types with minima and K-quants are formats of their own, which a plan may name
(``q4_1``, ``q4_k``).

Source: llama.cpp, ``src/llama-quant.cpp:llama_tensor_get_type`` and ``tools/quantize/quantize.cpp``; block sizes from
``gguf.GGML_QUANT_SIZES`` (gguf 0.19).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from allocator import Fault, InvalidInputError
from quantize.exports.documents import most_common
from quantize.exports.llama_names import is_elsewhere, is_router, is_stack, own_name, pattern_of
from quantize.exports.rules import Rule, Rules, expression
from quantize.exports.target import ExportTarget, Mask, Sheet, sized
from quantize.formats import StorageFormat, parse_format
from quantize.ggml.types import TYPES as TYPES_OF_GGML
from quantize.llama_types import OWN, TWINS, format_named, is_recipe, type_name, type_named

__all__ = ["FALLBACK", "OWN", "TARGET", "TYPES", "base_type", "falls_back", "own_name", "whole_blocks"]

TYPES = TWINS
#: What ``llama-quantize`` takes instead of a type whose blocks of 256 do not make up a row.
FALLBACK = {name: kind.fallback for name, kind in TYPES_OF_GGML.items() if kind.fallback is not None}
_SUFFIXES = (".txt", ".recipe")
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
#: Several tokens on a line, as ik_llama.cpp's --custom-q has them.
_COMMA = re.compile(r"(=\w+),")


def whole_blocks(fmt: StorageFormat) -> int | None:
    """Return how many weights a row has to be whole blocks of; None for plain floats."""
    return None if fmt.plain else fmt.block_size or fmt.group_size


def falls_back(fmt: StorageFormat, row: int) -> StorageFormat | None:
    """What ``llama-quantize`` makes of a type whose blocks do not make up a row.

    Args:
        row: Weights in a row.

    Returns:
        Another format; None where it stops with an error, as for all types with blocks of 32.

    Example:
        >>> falls_back(OWN["q4_k"], 288).name, falls_back(OWN["q4_k"], 80).name, falls_back(OWN["iq4_nl"], 80)
        ('int5-g32', 'fp16', None)
    """
    if fmt.name not in FALLBACK:
        return None
    other = format_named(FALLBACK[fmt.name])
    return other if row % (whole_blocks(other) or 1) == 0 else parse_format("fp16")


def _render(sheet: Sheet) -> dict[str, str]:
    lines = [f"{pattern_of(name)}={type_name(fmt)}" for name, fmt in sheet.formats.items()]
    # Layers that the plan leaves alone would get the base type unless the file says otherwise.
    lines += [f"{pattern_of(name)}=f16" for name in sheet.alone]
    return {"tensor-types.txt": "\n".join(lines) + "\n"}


def base_type(formats: Mapping[str, StorageFormat]) -> str:
    """The type to name on the command line: the most common one that is quantized.

    Returns:
        Name of the type, as ``llama-quantize`` spells it.
    """
    quantized = [fmt for fmt in formats.values() if not fmt.floating]
    return type_name(most_common(quantized) if quantized else parse_format("int8-g32")).upper()


def _parse(files: Mapping[str, str]) -> Rules:
    name = next((name for name in files if name.endswith(_SUFFIXES)), None)
    if name is None:
        raise InvalidInputError(Fault("", f"expected a .txt file, got {', '.join(files) or 'nothing'}"))
    rules: list[Rule] = []
    comments: list[int] = []
    unknown: dict[str, list[int]] = {}
    for number, line in enumerate(files[name].removeprefix("\ufeff").splitlines(), start=1):
        text = _COMMENT.sub("", line)
        comments += [number] if text != line else []
        for token in _COMMA.sub(r"\1 ", text).split():
            pattern, equals, kind = token.rpartition("=")
            if not equals or not pattern:
                raise InvalidInputError(
                    Fault(f"/{name}", f"line {number}: expected pattern=type, got {token!r}")
                )
            fmt = type_named(kind)
            if fmt is None:
                unknown.setdefault(kind, []).append(number)
                continue
            rules.append(expression(pattern.lower(), fmt, "search", f"/{name}", pattern))
    if unknown:
        raise InvalidInputError(*(_unknown(name, kind, lines) for kind, lines in unknown.items()))
    return Rules(tuple(rules), doubts=_comments(comments))


def _comments(lines: list[int]) -> tuple[str, ...]:
    if not lines:
        return ()
    shown = ", ".join(map(str, lines[:10])) + (f" and {len(lines) - 10} more" if len(lines) > 10 else "")
    return (f"comments in lines {shown}, which llama-quantize takes for patterns and refuses; remove them",)


def _refuses(tensor: str) -> str | None:
    return "llama-quantize leaves routers as they are" if is_router(tensor) else None


def _unknown(name: str, kind: str, lines: list[int]) -> Fault:
    more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
    known = ", ".join([*TYPES, *OWN])
    if is_recipe(kind):
        detail = f"{kind!r} is a recipe for a whole model, not a type of one tensor; known: {known}"
        return Fault(f"/{name}", f"line {lines[0]}{more}: {detail}")
    detail = f"line {lines[0]}{more}: unknown type {kind!r}; known: {known}, and the types of ik_llama.cpp"
    return Fault(f"/{name}", detail)


TARGET = ExportTarget(
    mask=Mask(
        symmetric=sized((4, 5, 8), 32),
        named=frozenset({"fp16", "bf16", "fp32"}),
    ),
    render=_render,
    parse=_parse,
    files=("tensor-types.txt",),
    own_name=own_name,
    refuses=_refuses,
    absent=is_elsewhere,
    is_stack=is_stack,
    unnamed="the base type",
    whole_blocks=whole_blocks,
    falls_back=falls_back,
    layer_name=lambda tensor: tensor.removesuffix(".weight"),
    formats=OWN,
    takes=lambda fmt: fmt.block_size is not None,
    stand_ins=("q2_k", "q3_k", "q4_1", "q5_1", "q6_k"),
    advice="llama-quantize --tensor-type-file tensor-types.txt in.gguf out.gguf Q4_0 (any quantized type: it is the "
    "base for tensors that the file does not name; not F16, which passes the file over)",
)
