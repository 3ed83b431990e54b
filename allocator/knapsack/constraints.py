"""What the budgets and limits of a request mean: rows over layers and formats, between two amounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from typing import overload

import numpy as np

from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.patterns import captured, comparing_names, matching
from allocator.contract.processor_time import ProcessorTimeError, processor_time
from allocator.contract.profile import Profile, ResourceTable
from allocator.contract.quantity import exact_quantity
from allocator.contract.request import Amount, Limit, Request
from allocator.knapsack.problem import FloatArray
from allocator.knapsack.tables import (
    WEIGHT_BYTES,
    Table,
    combines_by_max,
    constant_of,
    is_maximised,
    named_table,
    values_of,
)

#: Processor time for comparing one pattern with all names.
_PATTERN_S = 2.0

#: Budget on the stored bits per weight, a view of the table ``weight_bytes``.
EFFECTIVE_BITS = "effective_bits"
#: Rounding of a sum of doubles, relative to the sum of their absolute values.
_SUM_ROUNDING = 1e-15
_ONE = Fraction(1)


@dataclass(frozen=True)
class Constraint:
    """What is added up, and between which amounts it has to stay.

    Attributes:
        name: As the request names it.
        table: The table that is added up; None to count layers.
        layers: Indices of the layers in scope.
        formats: Indices of the formats in scope.
        low: Least amount, in the unit of the table; where the numbers are integers, the least integer that will do.
        high: Most amount, in the unit of the table; where the numbers are integers, the greatest that will do.
        at_least: The least amount as asked for, in the unit of the reported amount.
        limit: The most, as asked for.
        constant: What the table adds whatever is chosen; only where the whole table is in scope.
        ratio: Reported amount per unit of the table (8 / parameters for effective bits, else 1).
        rounding: How far a sum of decimals of both signs may be off.
        unit: Unit of the reported amount.
        whole: Whether the numbers are integers, so that sums are compared exactly.
        peak: Whether the largest entry counts rather than the sum.
    """

    name: str
    table: str | None
    layers: tuple[int, ...]
    formats: tuple[int, ...]
    low: float | None
    high: float | None
    at_least: float | None
    limit: float | None
    constant: float
    ratio: Fraction
    rounding: float
    unit: str
    whole: bool
    peak: bool

    @property
    def scope(self) -> tuple[object, ...]:
        """Rows of equal scope add up the same numbers."""
        return self.table, self.layers, self.formats

    @property
    def per_unit(self) -> float:
        """Reported amount per unit of the table."""
        return float(self.ratio)

    @overload
    def reported(self, amount: float) -> float: ...

    @overload
    def reported(self, amount: FloatArray) -> FloatArray: ...

    def reported(self, amount: float | FloatArray) -> float | FloatArray:
        """Turn an amount into the one that people see, rounded once.

        Args:
            amount: What the row adds up to, constant included, in the unit of the table.

        Returns:
            The amount in ``unit``.
        """
        if self.ratio == 1:
            return amount
        return amount * float(self.ratio.numerator) / float(self.ratio.denominator)

    def tolerance(self, amount: float) -> float:
        """How far a sum may pass a limit: nothing for integers, one part in 10⁹ otherwise.

        Tables hold decimals that binary floats cannot: 0.1 + 0.2 must meet a budget of 0.3, and 0.1 + 0.2 - 0.3 one
        of 0.

        Args:
            amount: The limit.

        Returns:
            The tolerance, in the unit of the table.
        """
        return 0.0 if self.whole else max(1e-9 * abs(amount), self.rounding)

    def slack(self, amount: float) -> float:
        """How much room an amount leaves to the nearer side.

        Args:
            amount: What the row adds up to, as reported.

        Returns:
            Distance to the limit; negative where it is broken.
        """
        sides = [] if self.limit is None else [self.limit - amount]
        return min(sides if self.at_least is None else [*sides, amount - self.at_least])

    def broken(self, amount: float) -> bool:
        """Whether an amount breaks the limit.

        Args:
            amount: What the row adds up to, constant included, in the unit of the table.

        Returns:
            True where it passes either side by more than the tolerance.
        """
        low, high = self.low, self.high
        if self.whole and not float(amount).is_integer():  # measured, not added up
            amount, low, high = self.reported(amount), self.at_least, self.limit
        over = high is not None and amount - high > self.tolerance(high)
        under = low is not None and low - amount > self.tolerance(low)
        return over or under


@comparing_names()
def resolve_limits(profile: Profile, request: Request) -> tuple[Constraint, ...]:
    """Find the rows behind the budgets and limits of a request.

    Args:
        profile: The tables.

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
    yield _row(
        name,
        name,
        table,
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
    return _row(
        EFFECTIVE_BITS,
        WEIGHT_BYTES,
        table,
        (layers, formats),
        (None, bits),
        constant=0.0,  # a mean over the planned rows: what lies outside has bytes, but no bits to choose
        unit="bit",
        ratio=8 * bytes_per_unit / parameters,
    )


def _row(
    name: str,
    table_name: str | None,
    table: Table | None,
    scope: tuple[tuple[int, ...], tuple[int, ...]],
    asked: tuple[Fraction | None, Fraction | None],
    *,
    constant: float,
    unit: str,
    ratio: Fraction = _ONE,
) -> Constraint:
    layers, formats = scope
    at_least, limit = (None if amount is None else float(amount) for amount in asked)
    row = Constraint(
        name=name,
        table=table_name,
        layers=layers,
        formats=formats,
        low=None if asked[0] is None else float(asked[0] / ratio),
        high=None if asked[1] is None else float(asked[1] / ratio),
        at_least=at_least,
        limit=limit,
        constant=constant,
        ratio=ratio,
        rounding=0.0 if table is None else _rounding(table, layers, formats),
        unit=unit,
        whole=table is None or table.whole,
        peak=table is not None and combines_by_max(table),
    )
    return _in_integers(row, *asked) if row.whole else row


def _in_integers(row: Constraint, at_least: Fraction | None, limit: Fraction | None) -> Constraint:
    # A plan fits where the amount that is printed for it is within what was asked, so that printed amounts can be
    # asked for: 3.3333333333333335 bits are those 10 bits of 3 weights, though a third has no such decimal.
    low, high = row.low, row.high
    if limit is not None:
        most = floor(limit / row.ratio)
        high = float(most + 1 if row.reported(float(most + 1)) <= float(limit) else most)
    if at_least is not None:
        least = ceil(at_least / row.ratio)
        low = float(least - 1 if row.reported(float(least - 1)) >= float(at_least) else least)
    return replace(row, low=low, high=high)


def _rounding(table: Table, layers: tuple[int, ...], formats: tuple[int, ...]) -> float:
    # Numbers of one sign are no larger than their sum, and a part of that is allowed for anyway.
    if isinstance(table, ResourceTable):
        return 0.0
    values = np.nan_to_num(values_of(table)[np.ix_(layers, formats)])
    return _SUM_ROUNDING * float(np.abs(values).max(axis=1).sum()) if values.min() < 0 else 0.0


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
        yield _row(
            _name(limit, label),
            limit.table,
            table,
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
