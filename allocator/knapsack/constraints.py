"""What the budgets and limits of a request mean: rows over layers and formats, between two amounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from allocator.contract.errors import Fault, InvalidInputError, pointer
from allocator.contract.patterns import captured, matching
from allocator.contract.profile import Profile, ResourceTable
from allocator.contract.quantity import parse_quantity
from allocator.contract.request import Amount, Limit, Request
from allocator.knapsack.tables import WEIGHT_BYTES, combines_by_max, constant_of, is_maximised, named_table

#: Budget on the stored bits per weight, a view of the table ``weight_bytes``.
EFFECTIVE_BITS = "effective_bits"


@dataclass(frozen=True)
class Row:
    """What is added up, and between which amounts it has to stay.

    Attributes:
        name: As the request names it.
        table: The table that is added up; None to count layers.
        layers: Indices of the layers in scope.
        formats: Indices of the formats in scope.
        low: Least amount, in the unit of the table.
        high: Most amount, in the unit of the table.
        constant: What the table adds whatever is chosen; only where the whole table is in scope.
        per_unit: Reported amount per unit of the table (8 / parameters for effective bits, else 1).
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
    constant: float
    per_unit: float
    unit: str
    whole: bool
    peak: bool

    @property
    def scope(self) -> tuple[object, ...]:
        """Rows of equal scope add up the same numbers."""
        return self.table, self.layers, self.formats

    def tolerance(self, amount: float) -> float:
        """How far a sum may pass a limit: nothing for integers, one part in 10⁹ otherwise.

        Tables hold decimals that binary floats cannot: 0.1 + 0.2 must meet a budget of 0.3.

        Args:
            amount: The limit.

        Returns:
            The tolerance, in the unit of the table.
        """
        return 0.0 if self.whole else 1e-9 * abs(amount)

    def slack(self, amount: float) -> float:
        """How much room an amount leaves to the nearer side.

        Args:
            amount: What the row adds up to, constant included, in the unit of the table.

        Returns:
            Distance to the limit; negative where it is broken.
        """
        sides = [] if self.high is None else [self.high - amount]
        return min(sides if self.low is None else [*sides, amount - self.low])

    def broken(self, amount: float) -> bool:
        """Whether an amount breaks the limit.

        Args:
            amount: What the row adds up to, constant included, in the unit of the table.

        Returns:
            True where it passes either side by more than the tolerance.
        """
        over = self.high is not None and amount - self.high > self.tolerance(self.high)
        under = self.low is not None and self.low - amount > self.tolerance(self.low)
        return over or under


def resolve_limits(profile: Profile, request: Request) -> tuple[Row, ...]:
    """Find the rows behind the budgets and limits of a request.

    Args:
        profile: The tables.
        request: The request.

    Returns:
        Budgets first, then limits, in order.

    Raises:
        InvalidInputError: A name is unknown, an amount cannot be read, or a row contradicts itself; every faulty
            budget and limit is named.
    """
    rows: list[Row] = []
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


def _budget(profile: Profile, name: str, amount: Amount) -> Iterator[Row]:
    layers, formats = tuple(range(len(profile.layers))), tuple(range(len(profile.formats)))
    if name == EFFECTIVE_BITS and name not in profile.resources and name not in profile.costs:
        yield _effective_bits(profile, parse_quantity(amount, "bit"), layers, formats)
        return
    more = (EFFECTIVE_BITS,) if WEIGHT_BYTES in profile.resources else ()
    table = named_table(profile, name, pointer(("budgets", name)), "budget", more)
    unit = table.unit if isinstance(table, ResourceTable) else ""
    value = parse_quantity(amount, unit)
    if isinstance(table, ResourceTable) and value < 0:
        raise ValueError(f"expected at least 0 {unit}, got {amount!r}")
    demand = is_maximised(table)
    yield Row(
        name=name,
        table=name,
        layers=layers,
        formats=formats,
        low=value if demand else None,
        high=None if demand else value,
        constant=constant_of(table),
        per_unit=1.0,
        unit=unit,
        whole=table.whole,
        peak=combines_by_max(table),
    )


def _effective_bits(profile: Profile, bits: float, layers: tuple[int, ...], formats: tuple[int, ...]) -> Row:
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
        raise ValueError(f"expected more than 0 bits per weight, got {bits!r}")
    bytes_per_unit = parse_quantity(f"1 {table.unit}", "byte")
    return Row(
        name=EFFECTIVE_BITS,
        table=WEIGHT_BYTES,
        layers=layers,
        formats=formats,
        low=None,
        high=bits * parameters / (8.0 * bytes_per_unit),  # not bits / per_unit: 4.25 bits must stay exact
        constant=0.0,  # a mean over the planned rows: what lies outside has bytes, but no bits to choose
        per_unit=8.0 * bytes_per_unit / parameters,
        unit="bit",
        whole=table.whole,
        peak=False,
    )


def _limit(profile: Profile, limit: Limit, at: int) -> Iterator[Row]:
    if limit.min is None and limit.max is None:
        raise ValueError("expected min, max or both, got neither")
    where = ("limits", at)
    table = (
        None
        if limit.table is None
        else named_table(profile, limit.table, pointer((*where, "table")), "table")
    )
    unit = "layer" if table is None else table.unit if isinstance(table, ResourceTable) else ""
    low = None if limit.min is None else parse_quantity(limit.min, unit)
    high = None if limit.max is None else parse_quantity(limit.max, unit)
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
        yield Row(
            name=_name(limit, label),
            table=limit.table,
            layers=members,
            formats=formats,
            low=low,
            high=high,
            constant=constant_of(table) if table is not None and whole_table else 0.0,
            per_unit=1.0,
            unit=unit,
            whole=table is None or table.whole,
            peak=peak,
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
    for layer in layers:
        if text := captured(pattern, names[layer]):
            groups.setdefault(text, []).append(layer)
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


def _require_names(rows: Sequence[Row]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            detail = f"two rows are called {row.name!r}; give one of them a name of its own"
            raise InvalidInputError(Fault("/limits", detail))
        seen.add(row.name)
