"""Where two plans differ, and what each difference costs and spends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from allocator.contract.errors import Fault, InvalidInputError, pointer, unknown
from allocator.contract.profile import Profile
from allocator.contract.schema import Strict
from allocator.knapsack.tables import find_table


class LayerDifference(Strict):
    """A layer that two plans treat differently.

    Attributes:
        layer: The layer.
        first: Its format in the first plan.
        second: Its format in the second plan.
        change: Table name to the second entry less the first; absent where a table lacks one of them.
    """

    layer: str
    first: str
    second: str
    change: dict[str, float | None]


def differing(
    profile: Profile, first: Mapping[str, str], second: Mapping[str, str]
) -> tuple[LayerDifference, ...]:
    """List the layers that two plans treat differently.

    Args:
        first: Layer name to format name, for every layer.
        second: The same for the other plan.

    Returns:
        The layers, in the order of the profile.

    Example:
        >>> from allocator.contract.profile import load_profile
        >>> profile = load_profile(
        ...     {
        ...         "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...         "layers": [{"name": "up"}, {"name": "down"}],
        ...         "costs": {"kl": {"values": [[0.5, 0.25], [0.3, 0.1]]}},
        ...     }
        ... )
        >>> (found,) = differing(profile, {"up": "int4", "down": "int8"}, {"up": "int8", "down": "int8"})
        >>> found.layer, found.change
        ('up', {'kl': -0.25})
    """
    columns = {name: at for at, name in enumerate(profile.formats)}
    tables = {name: find_table(profile, name).values for name in (*profile.costs, *profile.resources)}
    return tuple(
        LayerDifference(
            layer=layer.name,
            first=first[layer.name],
            second=second[layer.name],
            change={
                name: _less(rows[at][columns[second[layer.name]]], rows[at][columns[first[layer.name]]])
                for name, rows in tables.items()
            },
        )
        for at, layer in enumerate(profile.layers)
        if first[layer.name] != second[layer.name]
    )


def require_plan(profile: Profile, assignment: Mapping[str, str], fusions: Collection[str] = ()) -> None:
    """Refuse an assignment that is no plan for a profile.

    Args:
        assignment: Layer name to format name.

    Raises:
        InvalidInputError: A layer is missing or unknown, or a format or fusion is; names every one.
    """
    if faults := tuple(_faults(profile, assignment, fusions)):
        raise InvalidInputError(*faults)


def _faults(profile: Profile, assignment: Mapping[str, str], fusions: Collection[str]) -> Iterator[Fault]:
    names = [layer.name for layer in profile.layers]
    if missing := [name for name in names if name not in assignment]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield Fault("/assignment", f"expected a format for every layer, got none for {missing[0]!r}{more}")
    known = set(names)
    for name, chosen in assignment.items():
        where = pointer(("assignment", name))
        if name not in known:
            yield Fault(where, unknown(name, names, "layer"))
        elif chosen not in profile.formats:
            yield Fault(where, unknown(chosen, profile.formats, "format"))
    have = {fusion.name for fusion in profile.fusions}
    for at, name in enumerate(fusions):
        if name not in have:
            yield Fault(pointer(("fusions", at)), unknown(name, sorted(have), "fusion"))


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other
