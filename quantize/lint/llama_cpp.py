"""llama.cpp: types of its own, in blocks of 32 or 256 along a row; what does not fit falls back to another type.

Source: llama.cpp, ``src/llama-quant.cpp:tensor_type_fallback``; block sizes from gguf 0.19.
"""

from __future__ import annotations

from collections.abc import Iterator

from quantize.exports.llama_cpp import OWN, TYPES, own_name
from quantize.formats import StorageFormat, flat_shape
from quantize.lint.findings import Case, Finding, Runtime, Severity
from quantize.lint.rules import experts, formats, tied_weights, unknown_names

_TWINS = set(TYPES.values())
_FALLBACK = {
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
    "q2_k": "q4_0",
    "q3_k": "q4_0",
    "tq1_0": "q4_0",
    "tq2_0": "q4_0",
}
_SHORT = {"iq4_nl": 32, "mxfp4": 32, "nvfp4": 64}


def supported(fmt: StorageFormat) -> tuple[Severity, str] | None:
    """Whether a format has a type.

    Args:
        fmt: A format that is not plain floating point.

    Returns:
        None where it has; else how bad it is and why.
    """
    if fmt.name in _TWINS or fmt.name in OWN:
        return None
    return (
        "error",
        f"{fmt.name} has no type; there are {', '.join([*sorted(_TWINS), 'and the types of gguf'])}",
    )


def blocks(case: Case) -> Iterator[Finding]:
    """Rows have to be whole blocks.

    Args:
        case: What is linted.

    Yields:
        One finding per layer that would get another type.
    """
    for layer, fmt in case.formats.items():
        shape = case.model.shapes.get(layer)
        if shape is None or fmt.plain:
            continue
        block = 32 if fmt.name in _TWINS else _SHORT.get(fmt.name, 256)
        _, row = flat_shape(shape)
        if row % block:
            instead = _FALLBACK.get(fmt.name, "iq4_nl" if fmt.name.startswith("iq") else "no other type")
            detail = f"rows of {row} are not whole blocks of {block}: the layer becomes {instead}, or f16"
            yield Finding(
                "warning", "group-sizes", (layer,), detail, "choose a type with blocks of 32, or f16"
            )


def nameless(case: Case) -> Iterator[Finding]:
    """Layers whose tensor is not known by name are passed over.

    Args:
        case: What is linted.

    Yields:
        One finding for all such layers.
    """
    if lost := tuple(layer for layer in case.formats if own_name(layer) is None):
        detail = "no tensor is known for these layers, so no pattern can name them"
        yield Finding("warning", "names", lost, detail, "give the tensors' names when exporting")


RUNTIME = Runtime(
    reads=frozenset({"llama.cpp"}),
    checks=(
        experts(whole_block=False),
        tied_weights,
        unknown_names,
        formats(supported, "choose one of those"),
        blocks,
        nameless,
    ),
    tested="llama.cpp main, 2026",
)
