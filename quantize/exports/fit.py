"""Fit a plan to what a target can say, and report what does not fit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from allocator import Fault, InvalidInputError
from allocator.contract.remarks import Loss
from quantize.exports.documents import integer
from quantize.exports.target import ROW, ExportTarget, Sheet
from quantize.formats import StorageFormat, flat_shape, parse_format

Shapes = Mapping[str, "tuple[int, ...] | None"]
_NAMELESS = "it has no name for this layer; give one"
_SMALLEST_GROUP = 8


@dataclass(frozen=True)
class _Placed:
    """What becomes of one layer: its name there, its format (None leaves it alone) and what is lost, and why."""

    layer: str
    wanted: str
    own: str | None
    format: StorageFormat | None
    instead: str
    reason: str


def fit(
    formats: Mapping[str, StorageFormat],
    target: ExportTarget,
    others: tuple[str, ...],
    names: Mapping[str, str],
    shapes: Shapes,
) -> tuple[Sheet, tuple[Loss, ...]]:
    """Fit a plan to a target.

    Args:
        formats: Layer name to format.
        others: Layers outside the plan, to be left alone.
        names: Layer name to the target's own name, where its rule does not give it.
        shapes: Layer name to the shape of its weight, where it is known: blocks have to fit its rows.

    Returns:
        What to write, and what is lost.

    Raises:
        InvalidInputError: Two layers have the same name in the target, or nothing is left to write.
    """
    native = _native(formats)
    planned = [
        _placed(layer, wanted, target, names, native, shapes.get(layer)) for layer, wanted in formats.items()
    ]
    outside = [
        _outside(layer, target, names, native)
        for layer in dict.fromkeys(others)
        if layer not in formats and not target.absent(layer)
    ]
    _require_distinct(planned, outside, target)
    made = list(_stacked([*planned, *outside], target, native))
    placed = {item.own: item.format for item in made if item.own is not None and item.format is not None}
    alone = dict.fromkeys(item.own for item in made if item.own is not None and item.format is None)
    losses = tuple(Loss(item.layer, item.wanted, item.instead, item.reason) for item in made if item.reason)
    if not placed:
        detail = f"no layer of the plan can be expressed; the target has {target.mask.describe()}"
        raise InvalidInputError(Fault("/assignment", detail))
    return Sheet(placed, tuple(alone)), losses


def _placed(
    layer: str,
    wanted: StorageFormat,
    target: ExportTarget,
    names: Mapping[str, str],
    native: str,
    shape: tuple[int, ...] | None,
) -> _Placed:
    own = names.get(layer) or target.own_name(layer)
    if own is None:
        absent = target.absent(layer)
        instead = native if absent or not target.unnamed else target.unnamed
        return _Placed(layer, wanted.name, None, None, instead, absent or _NAMELESS)
    refusal = target.refuses(own)
    row = None if shape is None else flat_shape(shape)[1]
    made, reason = (None, refusal) if refusal and not wanted.plain else _place(wanted, target, native, row)
    if made is None and native in target.mask.named:
        made = parse_format(native)
    return _Placed(layer, wanted.name, own, made, made.name if made else native, reason or "")


def _outside(layer: str, target: ExportTarget, names: Mapping[str, str], native: str) -> _Placed:
    own = names.get(layer) or target.own_name(layer)
    if own is None and target.unnamed:
        return _Placed(layer, native, None, None, target.unnamed, f"outside the plan, and {_NAMELESS}")
    return _Placed(layer, native, own, None, native, "")


def _stacked(items: list[_Placed], target: ExportTarget, native: str) -> Iterator[_Placed]:
    # Layers of a stack have one format: that with the most bits, so that none is stored worse than planned.
    stacks: dict[str, list[_Placed]] = {}
    for item in items:
        if item.own is not None and target.is_stack(item.own):
            stacks.setdefault(item.own, []).append(item)
    widest = {
        own: max(found, key=lambda item: 32 if item.format is None else item.format.bits)
        for own, found in stacks.items()
    }
    for item in items:
        shared = widest.get(item.own or "")
        if shared is None or shared.format == item.format:
            yield item
            continue
        name = native if shared.format is None else shared.format.name
        why = f"{item.own} holds all experts of the block in one format, and {shared.layer} needs {name}"
        yield _Placed(item.layer, item.wanted, item.own, shared.format, name, why)


def _native(formats: Mapping[str, StorageFormat]) -> str:
    floats = Counter(target.name for target in formats.values() if target.plain)
    return floats.most_common(1)[0][0] if floats else "fp16"


def _place(
    wanted: StorageFormat, target: ExportTarget, native: str, row: int | None
) -> tuple[StorageFormat | None, str]:
    mask = target.mask
    if wanted.activation_bits < 16 and wanted.name not in mask.named:
        without, reason = _place(parse_format(wanted.name.removesuffix("-dynamic")), target, native, row)
        return without, reason or "it says nothing of inputs that are rounded as they come"
    known = wanted.name in target.formats or wanted.name in mask.named or target.takes(wanted)
    if known or (wanted.integer and mask.has(wanted)):
        misfit = _misfit(wanted, target, row)
        if misfit is None:
            return wanted, ""
        return _fitting(wanted, target, row), misfit
    if wanted.floating:
        mine = f"it leaves layers in the checkpoint's own precision, taken to be {native}"
        return None, "" if wanted.name == native else mine
    foreign = wanted.codec is not None and wanted.block_size is None
    nearest = None if foreign else _fitting(wanted, target, row)
    if foreign:
        return None, f"it has {mask.describe()}, and no {wanted.name}; the layer is left as it is"
    if nearest is None:
        return None, f"it has {mask.describe()}; the layer is left as it is"
    return nearest, f"it has {mask.describe()}"


def _misfit(fmt: StorageFormat, target: ExportTarget, row: int | None) -> str | None:
    block = target.whole_blocks(fmt)
    if row is None or block is None or row % block == 0:
        return None
    return f"groups of {block} do not divide rows of {row}, and it needs whole ones"


def _fitting(wanted: StorageFormat, target: ExportTarget, row: int | None) -> StorageFormat | None:
    if row is not None and _misfit(wanted, target, row):
        theirs = target.falls_back(wanted, row)
        if theirs is not None or wanted.floating:
            return theirs
    # Bits are what was planned; a finer group or one more zero point never makes the layer worse, a coarser may.
    options = [target.formats[name] for name in target.stand_ins if target.formats[name].bits == wanted.bits]
    for symmetric, table in ((True, target.mask.symmetric), (False, target.mask.asymmetric)):
        sizes = table.get(wanted.bits, frozenset())
        some = _sizes(wanted, row) if sizes is None else sorted(sizes)
        options += [integer(wanted.bits, size, symmetric=symmetric) for size in some]
    able = [option for option in options if _misfit(option, target, row) is None]
    return min(able, key=lambda option: _apart(option, wanted)) if able else None


def _sizes(wanted: StorageFormat, row: int | None) -> list[int]:
    # Where any size will do: the one that was planned, halves of it that still make up a row, or the whole row.
    size = wanted.group_size or ROW
    if row is None or size == ROW:
        return [size]
    found = [size]
    while found[-1] % 2 == 0 and found[-1] // 2 >= _SMALLEST_GROUP:
        found.append(found[-1] // 2)
    return [*found, ROW]


def _apart(instead: StorageFormat, wanted: StorageFormat) -> tuple[bool, bool, float]:
    return (_coarser(instead, wanted), instead.symmetric != wanted.symmetric, _distance(instead, wanted))


def _coarser(instead: StorageFormat, wanted: StorageFormat) -> bool:
    return _length(instead) > _length(wanted) or (instead.symmetric and not wanted.symmetric)


def _distance(instead: StorageFormat, wanted: StorageFormat) -> float:
    return abs(math.log(_length(instead)) - math.log(_length(wanted)))


def _length(target: StorageFormat) -> int:
    # No row is longer than this; a whole row is the coarsest group.
    return target.group_size or 2**32


def _require_distinct(planned: list[_Placed], outside: list[_Placed], target: ExportTarget) -> None:
    rest = dict.fromkeys(item.own for item in outside)
    own = [name for name in (*(item.own for item in planned), *rest) if name and not target.is_stack(name)]
    if twice := [name for name, count in Counter(own).items() if count > 1]:
        raise InvalidInputError(Fault("/names", f"several layers are named {twice[0]!r} in the target"))
