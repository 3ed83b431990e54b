"""llama.cpp: types of its own, in blocks of 32 or 256 along a row; what does not fit falls back to another type.

Source: llama.cpp, ``src/llama-quant.cpp:tensor_type_fallback``; block sizes from gguf 0.19.
"""

from __future__ import annotations

from collections.abc import Iterator

from quantize.exports.llama_names import is_elsewhere, own_name
from quantize.formats import flat_shape
from quantize.lint.findings import Case, Finding, Runtime
from quantize.lint.rules import experts, formats, tied_weights, unknown_names
from quantize.llama_limits import misfit, unsupported


def blocks(case: Case) -> Iterator[Finding]:
    """Rows have to be whole blocks.

    Args:
        case: What is linted.

    Yields:
        One finding per layer that would get another type, or end the quantization.
    """
    for layer, fmt in case.formats.items():
        shape = case.model.shapes.get(layer)
        if shape is None or fmt.plain:
            continue
        found = misfit(flat_shape(shape)[1], fmt)
        if found is not None:
            severity, detail, advice = found
            yield Finding(severity, "group-sizes", (layer,), detail, advice)


def nameless(case: Case) -> Iterator[Finding]:
    """Layers whose tensor is not known by name are passed over.

    Args:
        case: What is linted.

    Yields:
        One finding for all such layers.
    """
    lost = tuple(
        layer
        for layer in case.formats
        if own_name(layer) is None and not (case.target and is_elsewhere(layer))
    )
    if lost:
        detail = "no tensor is known for these layers, so no pattern can name them"
        yield Finding("warning", "names", lost, detail, "give the tensors' names when exporting")


RUNTIME = Runtime(
    reads=frozenset({"llama.cpp"}),
    checks=(
        experts(whole_block=False),
        tied_weights,
        unknown_names,
        formats(unsupported, "choose one of those"),
        blocks,
        nameless,
    ),
    tested="llama.cpp main, 2026",
)
