"""Fit a plan to what a target can say, and report what does not fit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from allocator import Fault, InvalidInputError
from quantize.exports.documents import integer
from quantize.exports.result import Loss
from quantize.exports.target import ROW, ExportTarget, Sheet
from quantize.formats import StorageFormat, parse_format


def fit(
    formats: Mapping[str, StorageFormat],
    target: ExportTarget,
    others: tuple[str, ...],
    names: Mapping[str, str],
) -> tuple[Sheet, tuple[Loss, ...]]:
    """Fit a plan to a target.

    Args:
        formats: Layer name to format.
        target: The target.
        others: Layers outside the plan, to be left alone.
        names: Layer name to the target's own name, where its rule does not give it.

    Returns:
        What to write, and what is lost.

    Raises:
        InvalidInputError: Two layers have the same name in the target, or nothing is left to write.
    """
    native = _native(formats)
    placed: dict[str, StorageFormat] = {}
    alone: list[str] = []
    losses: list[Loss] = []
    for layer, wanted in formats.items():
        own = names.get(layer) or target.own_name(layer)
        refusal = "it has no name for this layer; give one" if own is None else target.refuses(own)
        instead, reason = (None, refusal) if refusal and not wanted.plain else _place(wanted, target, native)
        if reason:
            losses.append(Loss(layer, wanted.name, instead.name if instead else native, reason))
        if instead is None and native in target.mask.named:
            instead = parse_format(native)
        if own is not None and instead is not None:
            placed[own] = instead
        elif own is not None:
            alone.append(own)
    owned = [names.get(layer) or target.own_name(layer) for layer in formats]
    outside = (names.get(layer) or target.own_name(layer) for layer in others if layer not in formats)
    rest = tuple(dict.fromkeys(own for own in outside if own is not None))
    _require_distinct([*(own for own in owned if own is not None), *rest])
    if not placed:
        detail = f"no layer of the plan can be expressed; the target has {target.mask.describe()}"
        raise InvalidInputError(Fault("/assignment", detail))
    return Sheet(placed, (*alone, *rest)), tuple(losses)


def _native(formats: Mapping[str, StorageFormat]) -> str:
    floats = Counter(target.name for target in formats.values() if target.plain)
    return floats.most_common(1)[0][0] if floats else "fp16"


def _place(wanted: StorageFormat, target: ExportTarget, native: str) -> tuple[StorageFormat | None, str]:
    mask = target.mask
    if wanted.name in target.formats or wanted.name in mask.named:
        return wanted, ""
    if wanted.floating:
        known = f"it leaves layers in the checkpoint's own precision, taken to be {native}"
        return None, "" if wanted.name == native else known
    if wanted.activation_bits < 16:
        without, reason = _place(parse_format(wanted.name.removesuffix("-dynamic")), target, native)
        return without, reason or "it says nothing of inputs that are rounded as they come"
    if mask.has(wanted):
        return wanted, ""
    nearest = _nearest(wanted, target)
    if nearest is None:
        return None, f"it has {mask.describe()}; the layer is left as it is"
    return nearest, f"it has {mask.describe()}"


def _nearest(wanted: StorageFormat, target: ExportTarget) -> StorageFormat | None:
    # Bits are what was planned; a finer group or one more zero point never makes the layer worse, a coarser may.
    options = [target.formats[name] for name in target.stand_ins if target.formats[name].bits == wanted.bits]
    for symmetric, table in ((True, target.mask.symmetric), (False, target.mask.asymmetric)):
        sizes = table.get(wanted.bits, frozenset())
        whole = [wanted.group_size or ROW] if sizes is None else sorted(sizes)
        options += [integer(wanted.bits, size, symmetric=symmetric) for size in whole]
    return min(options, key=lambda option: _apart(option, wanted)) if options else None


def _apart(instead: StorageFormat, wanted: StorageFormat) -> tuple[bool, bool, float]:
    return (_coarser(instead, wanted), instead.symmetric != wanted.symmetric, _distance(instead, wanted))


def _coarser(instead: StorageFormat, wanted: StorageFormat) -> bool:
    return _length(instead) > _length(wanted) or (instead.symmetric and not wanted.symmetric)


def _distance(instead: StorageFormat, wanted: StorageFormat) -> float:
    return abs(math.log(_length(instead)) - math.log(_length(wanted)))


def _length(target: StorageFormat) -> int:
    # No row is longer than this; a whole row is the coarsest group.
    return target.group_size or 2**32


def _require_distinct(own: list[str]) -> None:
    if twice := [name for name, count in Counter(own).items() if count > 1]:
        raise InvalidInputError(Fault("/names", f"several layers are named {twice[0]!r} in the target"))
