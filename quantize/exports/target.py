"""What a target is: what its configuration can say, how it is written and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from quantize.exports.rules import Rules
from quantize.formats import StorageFormat

#: One scale for a whole row, as a "group size" in a mask.
ROW = 0


@dataclass(frozen=True)
class Mask:
    """What a configuration can express.

    Attributes:
        symmetric: Bits → group sizes of symmetric integers; None for any size and whole rows.
        asymmetric: The same for integers with a zero point.
        named: Other formats it can ask for: floating-point ones, and ``int8-dynamic``. Plain floats that are not
            among them are the checkpoint's own precision.
    """

    symmetric: Mapping[int, frozenset[int] | None]
    asymmetric: Mapping[int, frozenset[int] | None] = field(default_factory=dict)
    named: frozenset[str] = frozenset()

    def has(self, target: StorageFormat) -> bool:
        """Return whether an integer format can be expressed."""
        table = self.symmetric if target.symmetric else self.asymmetric
        if target.bits not in table:
            return False
        sizes = table[target.bits]
        return sizes is None or (target.group_size or ROW) in sizes

    def describe(self) -> str:
        """The mask for people.

        Returns:
            One line for messages and tables.

        Example:
            >>> Mask({8: frozenset({ROW})}, {4: frozenset({64, 128}), 2: None}).describe()
            'int8 (whole rows); uint4 (groups of 64, 128); uint2'
        """
        kinds = (("int", self.symmetric), ("uint", self.asymmetric))
        parts = [text for kind, sides in kinds for text in _described(kind, sides)]
        return "; ".join([*parts, *([", ".join(sorted(self.named))] if self.named else [])])


@dataclass(frozen=True)
class Sheet:
    """A plan as a target will have it; layers go by the target's own names.

    Attributes:
        formats: Layers to quantize, in the order of the plan.
        alone: Layers to leave as they are.
    """

    formats: Mapping[str, StorageFormat]
    alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportTarget:
    """A tool or runtime with a configuration format of its own.

    Attributes:
        mask: What the format can express.
        render: Writes a sheet as files.
        parse: Reads files: name → text. Foreign files may name layers by pattern.
        files: Names of the files that it writes.
        own_name: How the tool names a layer; None where it cannot.
        layer_name: The inverse.
        refuses: Why the tool cannot quantize a layer, by its own name for it; None where it can.
        absent: Why a layer is not in what the tool quantizes at all, so that nothing needs to be said of it.
        is_stack: Whether several layers are one thing there, by its own name: experts of a block.
        unnamed: What layers get that the files cannot name; nothing where they are left as they are.
        whole_blocks: Weights that a row has to be whole blocks of for a format; None where any row will do.
        falls_back: What the tool itself makes of a format where it has to be whole blocks and the row is not.
        formats: Formats that only this tool knows; a plan may name them.
        takes: Whether it knows a format that is not listed there.
        stand_ins: Those of them that may stand for a format of the same bits that the mask lacks.
        advice: What the user has to do with the files.
    """

    mask: Mask
    render: Callable[[Sheet], dict[str, str]]
    parse: Callable[[Mapping[str, str]], Rules]
    files: tuple[str, ...] = ()
    own_name: Callable[[str], str | None] = lambda name: name
    layer_name: Callable[[str], str] = lambda name: name
    refuses: Callable[[str], str | None] = lambda name: None  # noqa: ARG005 - most tools take any layer
    absent: Callable[[str], str | None] = lambda layer: None  # noqa: ARG005 - most tools see the whole model
    is_stack: Callable[[str], bool] = lambda name: False  # noqa: ARG005
    unnamed: str = ""
    whole_blocks: Callable[[StorageFormat], int | None] = lambda fmt: None  # noqa: ARG005 - some tools pad
    falls_back: Callable[[StorageFormat, int], StorageFormat | None] = lambda fmt, row: None  # noqa: ARG005
    formats: Mapping[str, StorageFormat] = field(default_factory=dict)
    takes: Callable[[StorageFormat], bool] = lambda fmt: False  # noqa: ARG005
    stand_ins: tuple[str, ...] = ()
    advice: str = ""


def whole_groups(fmt: StorageFormat) -> int | None:
    """Return the group size of a layer: the rule of tools that refuse a layer whose rows are not whole groups."""
    return fmt.group_size


def any_size(*bits: int) -> dict[int, frozenset[int] | None]:
    """Return a side of a mask without limits on groups."""
    return dict.fromkeys(bits)


def sized(bits: tuple[int, ...], *sizes: int) -> dict[int, frozenset[int] | None]:
    """A side of a mask with the same group sizes for all bits.

    Args:
        *sizes: Group sizes; :data:`ROW` for whole rows.

    Returns:
        Bits → group sizes.
    """
    return dict.fromkeys(bits, frozenset(sizes))


def _described(kind: str, sides: Mapping[int, frozenset[int] | None]) -> list[str]:
    bits_of: dict[frozenset[int] | None, list[int]] = {}
    for bits, sizes in sides.items():
        bits_of.setdefault(sizes, []).append(bits)
    return [", ".join(f"{kind}{bits}" for bits in group) + _sizes(sizes) for sizes, group in bits_of.items()]


def _sizes(sizes: frozenset[int] | None) -> str:
    if sizes is None:
        return ""
    groups = ", ".join(map(str, sorted(sizes - {ROW})))
    parts = ([f"groups of {groups}"] if groups else []) + (["whole rows"] if ROW in sizes else [])
    return f" ({' or '.join(parts)})"
