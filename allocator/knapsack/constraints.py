"""What the budgets and limits of a request mean: rows over layers and formats, between two amounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.patterns import captured, comparing_names, matching
from allocator.contract.processor_time import ProcessorTimeError, processor_time
from allocator.contract.profile import Profile, ResourceTable
from allocator.contract.quantity import exact_quantity
from allocator.contract.request import Amount, Limit, Request
from allocator.knapsack.constraint import Constraint, make_row
from allocator.knapsack.tables import WEIGHT_BYTES, combines_by_max, constant_of, is_maximised, named_table

#: Processor time for comparing one pattern with all names.
_PATTERN_S = 2.0

#: Budget on the stored bits per weight, a view of the table ``weight_bytes``.
EFFECTIVE_BITS = "effective_bits"


@comparing_names()
def resolve_limits(profile: Profile, request: Request) -> tuple[Constraint, ...]:
    """Find the rows behind the budgets and limits of a request.

    Returns:
        Budgets first, then limits, in order.

    Raises:
        InvalidInputError: A name is unknown, an amount cannot be read, or a row contradicts itself; every faulty
            budget and limit is named.
    """
    rows: list[Constraint] = []
    faults: list[Fault] = []
    makers = [
        *(
            (pointer(("budgets", name)), _budget, (profile, name, amount))
            for name, amount in request.budgets.items()
        ),
        *((pointer(("limits", at)), _limit, (profile, limit, at)) for at, limit in enumerate(request.limits)),
    ]
    for where, maker, arguments in makers:
        try:
            rows.extend(maker(*arguments))  # type: ignore[operator]
        except InvalidInputError as error:
            faults.extend(error.faults)
        except ValueError as error:
            faults.append(Fault(where, str(error)))
    if faults:
        raise InvalidInputError(*faults)
    _require_names(rows)
    return tuple(rows)


def _budget(profile: Profile, name: str, amount: Amount) -> Iterator[Constraint]:
    layers, formats = tuple(range(len(profile.layers))), tuple(range(len(profile.formats)))
    if name == EFFECTIVE_BITS and name not in profile.resources and name not in profile.costs:
        yield _effective_bits(profile, exact_quantity(amount, "bit"), layers, formats)
        return
    more = (EFFECTIVE_BITS,) if WEIGHT_BYTES in profile.resources else ()
    table = named_table(profile, name, pointer(("budgets", name)), "budget", more)
    unit = table.unit if isinstance(table, ResourceTable) else ""
    value = exact_quantity(amount, unit)
    if isinstance(table, ResourceTable) and value < 0:
        raise ValueError(f"expected at least {f'0 {unit}'.rstrip()}, got {amount!r}")
    demand = is_maximised(table)
    yield make_row(
        profile,
        name,
        name,
        (layers, formats),
        (value if demand else None, None if demand else value),
        constant=constant_of(table),
        unit=unit,
    )


def _effective_bits(
    profile: Profile, bits: Fraction, layers: tuple[int, ...], formats: tuple[int, ...]
) -> Constraint:
    table = profile.resources.get(WEIGHT_BYTES)
    if table is None:
        raise ValueError(
            f"effective bits are counted in the resource {WEIGHT_BYTES!r}, which this profile lacks; "
            f"it has: {', '.join(map(repr, profile.resources)) or 'none'}"
        )
    parameters = profile.parameters
    if parameters == 0:
        raise ValueError("effective bits need the number of parameters of the layers; the profile has none")
    if bits <= 0:
        raise ValueError(f"expected more than 0 bits per weight, got {float(bits)!r}")
    bytes_per_unit = exact_quantity(f"1 {table.unit}", "byte")
    return make_row(
        profile,
        EFFECTIVE_BITS,
        WEIGHT_BYTES,
        (layers, formats),
        (None, bits),
        constant=0.0,  # a mean over the planned rows: what lies outside has bytes, but no bits to choose
        unit="bit",
        ratio=8 * bytes_per_unit / parameters,
    )


def _limit(profile: Profile, limit: Limit, at: int) -> Iterator[Constraint]:
    if limit.min is None and limit.max is None:
        raise ValueError("expected min, max or both, got neither")
    where = ("limits", at)
    table = (
        None
        if limit.table is None
        else named_table(profile, limit.table, pointer((*where, "table")), "table")
    )
    unit = "layer" if table is None else table.unit if isinstance(table, ResourceTable) else ""
    low = None if limit.min is None else exact_quantity(limit.min, unit)
    high = None if limit.max is None else exact_quantity(limit.max, unit)
    if low is not None and high is not None and low > high:
        raise ValueError(f"min {limit.min!r} is above max {limit.max!r}")
    peak = table is not None and combines_by_max(table)
    if peak and low is not None:
        raise ValueError(f"{limit.table!r} combines by max; a least peak cannot be asked for")
    names = [layer.name for layer in profile.layers]
    layers = _scope(limit.layers, names, (*where, "layers"), "layer or glob")
    formats = _scope(limit.formats, list(profile.formats), (*where, "formats"), "format or glob")
    everything = len(layers) == len(names) and len(formats) == len(profile.formats)
    for label, members in _each(limit.each, layers, names):
        whole_table = everything and len(members) == len(names)
        yield make_row(
            profile,
            _name(limit, label),
            limit.table,
            (members, formats),
            (low, high),
            constant=constant_of(table) if table is not None and whole_table else 0.0,
            unit=unit,
        )


def _scope(
    patterns: Sequence[str], names: Sequence[str], where: tuple[str | int, ...], what: str
) -> tuple[int, ...]:
    found: set[int] = set()
    for at, pattern in enumerate(patterns):
        try:
            found.update(matching(pattern, names, what))
        except ValueError as error:
            raise InvalidInputError(Fault(pointer((*where, at)), str(error))) from error
    return tuple(sorted(found))


def _each(
    pattern: str | None, layers: tuple[int, ...], names: Sequence[str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    if pattern is None:
        yield "", layers
        return
    groups: dict[str, list[int]] = {}
    try:
        with processor_time(_PATTERN_S):
            for layer in layers:
                if text := captured(pattern, names[layer]):
                    groups.setdefault(text, []).append(layer)
    except ProcessorTimeError as error:
        shown = pattern[:100]
        raise ValueError(f"each: {shown!r} takes too long to compare with the names; use fewer *") from error
    if not groups:
        raise ValueError(f"each: {pattern!r} fits no layer in scope, for example not {names[layers[0]]!r}")
    yield from ((text, tuple(members)) for text, members in groups.items())


def _name(limit: Limit, label: str) -> str:
    base = limit.name
    if base is None:
        over = "" if limit.layers == ("*",) else f"[{', '.join(limit.layers)}]"
        base = f"{limit.table or 'layers'}{over}"
        base += "" if limit.formats == ("*",) else f"@{', '.join(limit.formats)}"
    return f"{base} {label}" if label else base


def _require_names(rows: Sequence[Constraint]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            detail = f"two rows are called {row.name!r}; give one of them a name of its own"
            raise InvalidInputError(Fault("/limits", detail))
        seen.add(row.name)
