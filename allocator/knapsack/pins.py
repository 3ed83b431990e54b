"""Which formats each layer may have: nulls in the tables, pins, allow and forbid lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from allocator.contract.errors import Fault, InvalidInputError, pointer, unknown
from allocator.contract.patterns import comparing_names, matching
from allocator.contract.profile import Profile
from allocator.contract.request import Request
from allocator.knapsack.problem import BoolArray, FloatArray, IntArray


def allowed_options(profile: Profile, request: Request, in_play: FloatArray) -> BoolArray:
    """Tell which formats each layer may have.

    A format is out where a number in play is missing, where a pin or an allow list names others, and where a forbid
    list names it.

    Args:
        profile: Layers, formats and tables.
        request: Pins, allow and forbid lists.
        in_play: (V, L, F) every number in play, NaN where a table has a null.

    Returns:
        (L, F); rows may be empty, :func:`require_options` says why.

    Raises:
        InvalidInputError: A layer or format is unknown, or pins contradict each other; every fault is named.
    """
    allowed: BoolArray = np.logical_not(np.isnan(in_play).any(axis=0))
    for layers, columns in _rules(profile, request):
        allowed[layers] &= columns
    return allowed


def require_options(
    profile: Profile, request: Request, allowed: BoolArray, available: BoolArray, unit_of_layer: IntArray
) -> None:
    """Refuse a profile and request that leave a unit without any format.

    Args:
        profile: Layers, formats and tables.
        request: Pins, allow and forbid lists.
        allowed: (L, F) from :func:`allowed_options`.
        available: (U, F), formats that every layer of the unit may have.
        unit_of_layer: (L,) index of the unit of each layer.

    Raises:
        InvalidInputError: A unit has no format left; says which layers, and whether the tables or the request did it.
    """
    faults = []
    for index in np.flatnonzero(~allowed.any(axis=1)).tolist():
        cause = (
            "pin, allow and forbid together" if _touched(profile, request, index) else "nulls in the tables"
        )
        name = profile.layers[index].name
        faults.append(Fault(pointer(("layers", index)), f"{name!r} has no format left: {cause} leave none"))
    for unit in np.flatnonzero(~available.any(axis=1)).tolist():
        members = np.flatnonzero(unit_of_layer == unit).tolist()
        if allowed[members].any(axis=1).all():
            sets = "; ".join(
                f"{profile.layers[i].name!r} may have {_named(profile, allowed[i])}" for i in members
            )
            unit_name = profile.layers[members[0]].unit
            where = pointer(("layers", members[0], "unit"))
            faults.append(Fault(where, f"the layers of unit {unit_name!r} share no format: {sets}"))
    if faults:
        raise InvalidInputError(*faults)


@comparing_names()
def _rules(profile: Profile, request: Request) -> list[tuple[list[int], BoolArray]]:
    faults: list[Fault] = []
    rules: list[tuple[list[int], BoolArray]] = []
    pinned: dict[int, tuple[str, str]] = {}
    layer_names = [layer.name for layer in profile.layers]
    for kind, keep in (("pin", True), ("allow", True), ("forbid", False)):
        given: Mapping[str, str | tuple[str, ...]] = getattr(request, kind)
        for pattern, wanted in given.items():
            names = (wanted,) if isinstance(wanted, str) else wanted
            try:
                layers = matching(pattern, layer_names)
                rules.append((layers, _columns(profile, names) == keep))
            except ValueError as error:
                faults.append(Fault(pointer((kind, pattern)), str(error)))
                continue
            if kind == "pin":
                faults.extend(_contradictions(profile, pinned, pattern, names[0], layers))
    if faults:
        raise InvalidInputError(*faults)
    return rules


def _columns(profile: Profile, names: Iterable[str]) -> BoolArray:
    formats = list(profile.formats)
    for name in names:
        if name not in formats:
            raise ValueError(unknown(name, formats, "format"))
    return np.isin(formats, list(names))


def _named(profile: Profile, columns: BoolArray) -> str:
    return ", ".join(name for name, free in zip(profile.formats, columns, strict=True) if free)


def _contradictions(
    profile: Profile, pinned: dict[int, tuple[str, str]], pattern: str, wanted: str, layers: Iterable[int]
) -> Iterable[Fault]:
    for index in layers:
        other, before = pinned.setdefault(index, (pattern, wanted))
        if before != wanted:
            yield Fault(
                pointer(("pin", pattern)),
                f"pins {profile.layers[index].name!r} to {wanted!r}, but {other!r} pins it to {before!r}",
            )
            return


def _touched(profile: Profile, request: Request, index: int) -> bool:
    names = [layer.name for layer in profile.layers]
    patterns = [*request.pin, *request.allow, *request.forbid]
    return any(index in matching(pattern, names) for pattern in patterns)
