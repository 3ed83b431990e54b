"""One row of a request: what is added up, and between which amounts it has to stay.

Amounts are compared in the numbers of the table. Integers are compared exactly, so that what was asked is rounded to
the integers that it allows; sums of decimals have a tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, inf, nextafter
from typing import overload

import numpy as np

from allocator.contract.profile import Profile, ResourceTable
from allocator.knapsack.exact_sums import LARGEST_EXACT, grain_of
from allocator.knapsack.problem import FloatArray
from allocator.knapsack.tables import Table, combines_by_max, constant_of, find_table, values_of

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
        grain: A power of two that divides all of them, which matters where their sums pass 2⁵³; else 1.
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
    grain: float
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


def make_row(
    profile: Profile,
    name: str,
    table_name: str | None,
    scope: tuple[tuple[int, ...], tuple[int, ...]],
    asked: tuple[Fraction | None, Fraction | None],
    *,
    constant: float,
    unit: str,
    ratio: Fraction = _ONE,
) -> Constraint:
    """Turn what was asked of a table into a row in the numbers of that table.

    Args:
        name: As the request names it.
        table_name: The table; None to count layers.
        scope: Indices of layers and of formats.
        asked: The least and the most, in the unit of the reported amount.
        constant: What the table adds whatever is chosen.
        unit: Unit of the reported amount.
        ratio: Reported amount per unit of the table.

    Returns:
        The row.
    """
    table = None if table_name is None else find_table(profile, table_name)
    layers, formats = scope
    low, high = (None if amount is None else float(amount / ratio) for amount in asked)
    at_least, limit = (None if amount is None else float(amount) for amount in asked)
    row = Constraint(
        name=name,
        table=table_name,
        layers=layers,
        formats=formats,
        low=low,
        high=high,
        at_least=at_least,
        limit=limit,
        constant=constant,
        ratio=ratio,
        rounding=0.0 if table is None else _rounding(table, layers, formats),
        unit=unit,
        whole=table_name is None or _whole(profile, table_name),
        grain=1.0,
        peak=table is not None and combines_by_max(table),
    )
    return _in_integers(profile, row, *asked) if row.whole else row


def largest_sum(profile: Profile, name: str) -> float:
    """What no plan passes when a table is added up.

    Returns:
        The sum of the largest entries of all layers and fused kernels, and of the constant.
    """
    fused = (max((value or 0.0 for value in row), default=0.0) for row in _fused(profile, name))
    return find_table(profile, name).largest_sum + sum(fused)


def _fused(profile: Profile, name: str) -> Iterator[Sequence[float | None]]:
    return (fusion.resources[name] for fusion in profile.fusions if name in fusion.resources)


def _whole(profile: Profile, name: str) -> bool:
    fused = (value for row in _fused(profile, name) for value in row)
    return find_table(profile, name).whole and all(
        value is None or float(value).is_integer() for value in fused
    )


def _grain(profile: Profile, row: Constraint) -> float:
    if row.table is None or row.peak or largest_sum(profile, row.table) < LARGEST_EXACT:
        return 1.0
    table = find_table(profile, row.table)
    fused = np.array([value for kernel in _fused(profile, row.table) for value in kernel], dtype=float)
    values = np.concatenate([values_of(table).ravel(), fused, [constant_of(table)]])
    return grain_of(np.nan_to_num(values))


def _in_integers(
    profile: Profile, row: Constraint, at_least: Fraction | None, limit: Fraction | None
) -> Constraint:
    # A plan fits where the amount that is printed for it is within what was asked, so that printed amounts can be
    # asked for: 3.3333333333333335 bits are those 10 bits of 3 weights, though a third has no such decimal.
    low, high, as_it_is = row.low, row.high, row.ratio == 1
    if limit is not None:
        most = floor(limit / row.ratio)
        more = not as_it_is and row.reported(float(most + 1)) <= float(limit)
        high = _not_above(most + more)
    if at_least is not None:
        least = ceil(at_least / row.ratio)
        fewer = not as_it_is and row.reported(float(least - 1)) >= float(at_least)
        low = -_not_above(-(least - fewer))
    return replace(row, low=low, high=high, grain=_grain(profile, row))


def _not_above(amount: int) -> float:
    nearest = float(amount)
    return nextafter(nearest, -inf) if int(nearest) > amount else nearest


def _rounding(table: Table, layers: tuple[int, ...], formats: tuple[int, ...]) -> float:
    # Numbers of one sign are no larger than their sum, and a part of that is allowed for anyway.
    if isinstance(table, ResourceTable):
        return 0.0
    values = np.nan_to_num(values_of(table)[np.ix_(layers, formats)])
    return _SUM_ROUNDING * float(np.abs(values).max(axis=1).sum()) if values.min() < 0 else 0.0
