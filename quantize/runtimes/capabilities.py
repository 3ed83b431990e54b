"""What a runtime loads, as one table: it serves units, the formats a profile offers, lint, apply and export."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from allocator.contract.remarks import Severity
from quantize.formats import StorageFormat, flat_shape

#: What a layer is to a runtime. A ``head`` is the matrix that gives the logits.
Kind = Literal["matrix", "head", "embedding", "convolution"]
KINDS: tuple[Kind, ...] = ("matrix", "head", "embedding", "convolution")
#: Why runtimes of matrices leave convolutions alone.
CONVOLVED = "the runtime quantizes matrices, and leaves convolutions in floating point"
#: How bad it is, and why.
Complaint: TypeAlias = tuple[Severity, str]
FormatRule: TypeAlias = Callable[[StorageFormat], Complaint | None]

_EMBEDDING = re.compile(
    r"(?:^|\.)(?:\w*embed_(?:tokens|in|positions)|\w*embed_tokens\w*|\w*embeddings?|wte|wpe|shared|tok_emb)$"
)
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)$")


@dataclass(frozen=True)
class Objection:
    """What a runtime has against a layer in a format.

    Attributes:
        severity: ``error`` where the file does not load or computes something else.
        rule: Name of the lint rule.
        detail: What is wrong.
        advice: What to do.
    """

    severity: Severity
    rule: str
    detail: str
    advice: str


#: (rows, weights per row) of a layer and its format → an objection.
ShapeLimit: TypeAlias = Callable[[int, int, StorageFormat], Objection | None]


@dataclass(frozen=True)
class Capabilities:
    """What one runtime loads.

    Attributes:
        name: Its name.
        tested: The release that the table follows.
        reads: Export targets whose files it loads.
        formats: Kind of layer → what it has against a format that is no plain float; a kind that is missing stays as
            it is, for the reason in ``stays``.
        advice: What to choose instead of a format that it has no code for.
        stays: Kind of layer that is never quantized → why.
        limits: What shapes rule out.
        fuses: Whether projections that read the same input become one layer at load.
        experts: Whether experts share a format in a ``block``, per ``projection``, or not at all.
        units: Rule for units of a profile made for it.
        columns: Formats of a profile made for it.
        more_columns: Further ones, where ``ggml`` is installed, which rounds to them.
        rounding: Rounding of a profile made for it.
        backend: Backend that writes for it.
        block_types: Whether the types of ggml are its formats.
        own_name: Layer → its name for it; None where it takes any name.
        unloadable: Architecture (None where it is not known) and names of layers → why it loads no quantized weights of
            such a model; None where it does.
        elsewhere: Layer → why it is kept in a file of its own; None where it is not.
    """

    name: str
    tested: str
    reads: frozenset[str]
    formats: Mapping[Kind, FormatRule]
    advice: str
    columns: tuple[str, ...]
    backend: str
    block_types: bool = False
    more_columns: tuple[str, ...] = ()
    stays: Mapping[Kind, str] = field(default_factory=dict)
    limits: tuple[ShapeLimit, ...] = ()
    fuses: bool = False
    experts: Literal["block", "projection"] | None = None
    units: str = "none"
    rounding: str = "nearest"
    own_name: Callable[[str], str | None] | None = None
    unloadable: Callable[[str | None, Collection[str]], str | None] = lambda kind, layers: None  # noqa: ARG005
    elsewhere: Callable[[str], str | None] = lambda layer: None  # noqa: ARG005 - most keep a model in one file


def kind_of_name(layer: str, shape: Sequence[int] | None = None) -> Kind:
    """Tell what a layer is from its name, and from its shape where it is known.

    Args:
        layer: Its name in the checkpoint.

    Returns:
        Its kind.

    Example:
        >>> kind_of_name("gpt_neox.embed_in"), kind_of_name("embed_out"), kind_of_name("conv1", (64, 3, 7, 7))
        ('embedding', 'head', 'convolution')
    """
    if _HEAD.search(layer):
        return "head"
    if _EMBEDDING.search(layer):
        return "embedding"
    stacked = "experts" in layer.split(".")
    return "convolution" if shape is not None and len(shape) > 2 and not stacked else "matrix"


def objections(
    table: Capabilities, kind: Kind, shape: Sequence[int] | None, fmt: StorageFormat
) -> Iterator[Objection]:
    """Say what a runtime has against a layer in a format.

    Args:
        kind: What the layer is.
        shape: Shape of its weight; None where it is not known.

    Yields:
        Objections; none for plain floats, which every runtime loads.

    Example:
        >>> from quantize.formats import parse_format
        >>> from quantize.runtimes import RUNTIMES
        >>> table = RUNTIMES["onnxruntime"]
        >>> [found.severity for found in objections(table, "matrix", None, parse_format("int4-g512"))]
        ['error']
    """
    if fmt.plain:
        return
    if kind in table.stays:
        yield Objection("error", f"{kind}s", table.stays[kind], f"leave {kind}s as they are")
        return
    if not table.block_types and (fmt.codec is not None or fmt.block_size is not None):
        whose = "a type of llama.cpp" if fmt.block_size is not None else "a format of its own"
        yield Objection("error", "formats", f"it has no code for {fmt.name}, which is {whose}", table.advice)
        return
    complaint = table.formats[kind](fmt)
    if complaint is not None:
        yield Objection(complaint[0], "formats", complaint[1], table.advice)
        if complaint[0] == "error":
            return
    if shape is not None:
        rows, row = flat_shape(shape)
        for limit in table.limits:
            if (found := limit(rows, row, fmt)) is not None:
                yield found


def groups_divide(
    severity: Severity = "error", consequence: str = "the loader refuses the layer"
) -> ShapeLimit:
    """Groups have to divide the row.

    Args:
        severity: How bad it is for the runtime.
        consequence: What the runtime does.

    Returns:
        The limit.
    """

    def limit(rows: int, row: int, fmt: StorageFormat) -> Objection | None:
        del rows
        size = fmt.group_size
        if size is None or row % size == 0:
            return None
        fitting = [divisor for divisor in (128, 64, 32, 16, 8, 4, 2) if row % divisor == 0 and divisor < size]
        advice = f"use groups of {fitting[0]} or whole rows" if fitting else "use whole rows"
        detail = f"groups of {size} do not divide rows of {row}: {consequence}"
        return Objection(severity, "group-sizes", detail, advice)

    return limit


def tiles(rows_step: int, row_step: int, consequence: str) -> ShapeLimit:
    """Fast kernels for integers want whole tiles.

    Args:
        rows_step: Number that should divide the outputs.
        row_step: Number that should divide the row.
        consequence: What happens elsewhere.

    Returns:
        The limit: a warning for integers whose inputs stay as they are.
    """

    def limit(rows: int, row: int, fmt: StorageFormat) -> Objection | None:
        if fmt.floating or fmt.activation_bits < 16 or (row % row_step == 0 and rows % rows_step == 0):
            return None
        detail = (
            f"its fast kernels need rows of whole {row_step} and outputs of whole {rows_step}, and this layer has rows "
            f"of {row} and {rows} outputs: {consequence}"
        )
        return Objection("warning", "kernel-shapes", detail, "leave it as it is, or test it on your release")

    return limit
