"""What the names in a request mean: the table behind an objective and behind each budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from allocator.errors import Fault, InvalidInputError, pointer, unknown
from allocator.profile import CostTable, Profile, ResourceTable
from allocator.quantity import parse_quantity
from allocator.request import Request

#: Budget on the stored bits per weight, a view of the table ``weight_bytes``.
EFFECTIVE_BITS = "effective_bits"
WEIGHT_BYTES = "weight_bytes"


@dataclass(frozen=True)
class Objective:
    """What is minimised (or maximised, for tables where higher is better).

    Attributes:
        weights: Table name to its weight in the sum.
        maximise: Whether higher is better.
        constant: Part of the objective that no choice changes.
    """

    weights: Mapping[str, float]
    maximise: bool
    constant: float

    @property
    def label(self) -> str:
        """The objective as people write it: ``kl`` or ``1·kl + 0.2·fisher``."""
        if len(self.weights) == 1:
            return next(iter(self.weights))
        return " + ".join(f"{weight:g}·{name}" for name, weight in self.weights.items())


@dataclass(frozen=True)
class Budget:
    """A limit on what the rows of one table combine to.

    Attributes:
        name: As the request names it.
        table: The table it limits.
        limit: In the unit of the table.
        per_unit: Reported amount per unit of the table (8 / parameters for effective bits, else 1).
        unit: Unit of the reported amount.
        at_least: True for tables where higher is better: the sum must reach the limit.
        whole: Whether the table holds integers only, so that its sums are compared exactly.
    """

    name: str
    table: str
    limit: float
    per_unit: float
    unit: str
    at_least: bool
    whole: bool

    @property
    def tolerance(self) -> float:
        """How far a sum may pass the limit: nothing for integers, one part in 10⁹ otherwise.

        Tables hold decimals that binary floats cannot: 0.1 + 0.2 must meet a budget of 0.3.
        """
        return 0.0 if self.whole else 1e-9 * abs(self.limit)

    def slack(self, amount: float) -> float:
        """How much room an amount leaves.

        Args:
            amount: What the rows combine to, in the unit of the table.

        Returns:
            Distance to the limit; negative where the budget is broken.
        """
        return amount - self.limit if self.at_least else self.limit - amount


def resolve_objective(profile: Profile, request: Request) -> Objective:
    """Find the tables that a request wants minimised.

    Args:
        profile: The tables.
        request: The request; without an objective the profile must have exactly one cost table.

    Returns:
        The objective.

    Raises:
        InvalidInputError: A table is unknown, ambiguous, combines by maximum, or directions are mixed.
    """
    wanted = request.objective
    if wanted is None:
        if len(profile.costs) != 1:
            known = ", ".join(map(repr, profile.costs)) or "none"
            detail = f"name a table to minimise; the profile has these costs: {known}"
            raise InvalidInputError(Fault("/objective", detail))
        wanted = next(iter(profile.costs))
    single = isinstance(wanted, str)
    weights = {wanted: 1.0} if isinstance(wanted, str) else dict(wanted)
    tables = {
        name: _objective_table(
            profile, name, weight, pointer(("objective",) if single else ("objective", name))
        )
        for name, weight in weights.items()
    }
    directions = {is_maximised(table) for table in tables.values()}
    if len(directions) > 1:
        detail = "tables where lower is better and tables where higher is better cannot be added up"
        raise InvalidInputError(Fault("/objective", detail))
    constant = sum(weight * constant_of(tables[name]) for name, weight in weights.items())
    return Objective(weights, directions.pop(), constant)


def _objective_table(profile: Profile, name: str, weight: float, where: str) -> CostTable | ResourceTable:
    table = _table(profile, name, where, "objective")
    if weight <= 0:
        raise InvalidInputError(Fault(where, f"expected a weight above 0, got {weight!r}"))
    if combines_by_max(table):
        raise InvalidInputError(Fault(where, f"{name!r} combines by max and can only be a budget"))
    return table


def resolve_budgets(profile: Profile, request: Request) -> tuple[Budget, ...]:
    """Find the table and the limit, in its unit, behind each budget.

    Args:
        profile: The tables.
        request: The request.

    Returns:
        One budget per entry of ``request.budgets``, in order.

    Raises:
        InvalidInputError: A name is unknown or an amount cannot be read; every faulty budget is named.
    """
    budgets: list[Budget] = []
    faults: list[Fault] = []
    for name, amount in request.budgets.items():
        try:
            budgets.append(_budget(profile, name, amount))
        except InvalidInputError as error:
            faults.extend(error.faults)
        except ValueError as error:
            faults.append(Fault(pointer(("budgets", name)), str(error)))
    if faults:
        raise InvalidInputError(*faults)
    return tuple(budgets)


def _budget(profile: Profile, name: str, amount: float | str) -> Budget:
    where = pointer(("budgets", name))
    if name == EFFECTIVE_BITS and name not in profile.resources and name not in profile.costs:
        return _effective_bits(profile, parse_quantity(amount, "bit"))
    table = _table(profile, name, where, "budget")
    unit = table.unit if isinstance(table, ResourceTable) else ""
    limit = parse_quantity(amount, unit)
    if isinstance(table, ResourceTable) and limit < 0:
        raise ValueError(f"expected at least 0 {unit}, got {amount!r}")
    return Budget(name, name, limit, 1.0, unit, is_maximised(table), is_whole(table))


def _effective_bits(profile: Profile, bits: float) -> Budget:
    table = profile.resources.get(WEIGHT_BYTES)
    if table is None:
        raise ValueError(
            f"effective bits are counted in the resource {WEIGHT_BYTES!r}, which this profile lacks; "
            f"it has: {', '.join(map(repr, profile.resources)) or 'none'}"
        )
    parameters = sum(layer.parameters or 0 for layer in profile.layers)
    if parameters == 0:
        raise ValueError("effective bits need the number of parameters of the layers; the profile has none")
    if bits <= 0:
        raise ValueError(f"expected more than 0 bits per weight, got {bits!r}")
    bytes_per_unit = parse_quantity(f"1 {table.unit}", "byte")
    limit = bits * parameters / (8.0 * bytes_per_unit)  # not bits / per_unit: 4.25 bits must stay exact
    return Budget(
        name=EFFECTIVE_BITS,
        table=WEIGHT_BYTES,
        limit=limit,
        per_unit=8.0 * bytes_per_unit / parameters,
        unit="bit",
        at_least=False,
        whole=is_whole(table),
    )


def _table(profile: Profile, name: str, where: str, role: str) -> CostTable | ResourceTable:
    found = profile.costs.get(name) or profile.resources.get(name)
    if found is None:
        known = [*profile.costs, *profile.resources]
        if role == "budget" and WEIGHT_BYTES in profile.resources:
            known.append(EFFECTIVE_BITS)
        raise InvalidInputError(Fault(where, unknown(name, known, role)))
    return found


def find_table(profile: Profile, name: str) -> CostTable | ResourceTable:
    """Look up a table by a name that is known to exist.

    Args:
        profile: The tables.
        name: Name of a cost or a resource.

    Returns:
        The table.
    """
    return profile.costs.get(name) or profile.resources[name]


def combines_by_max(table: CostTable | ResourceTable) -> bool:
    """Tell whether the largest row of a table counts rather than the sum.

    Args:
        table: A cost or resource table.

    Returns:
        True for resources such as peak memory.
    """
    return isinstance(table, ResourceTable) and table.combine == "max"


def is_maximised(table: CostTable | ResourceTable) -> bool:
    """Tell whether higher values of a table are better.

    Args:
        table: A cost or resource table.

    Returns:
        True for cost tables such as SQNR.
    """
    return isinstance(table, CostTable) and table.better == "higher"


def constant_of(table: CostTable | ResourceTable) -> float:
    """What a table adds whatever is chosen.

    Args:
        table: A cost or resource table.

    Returns:
        The constant of a resource; 0 for costs.
    """
    return table.constant if isinstance(table, ResourceTable) else 0.0


def is_whole(table: CostTable | ResourceTable) -> bool:
    """Tell whether a table holds integers only, so that its sums are exact.

    Args:
        table: A cost or resource table.

    Returns:
        True when every value and the constant are integers.
    """
    return float(constant_of(table)).is_integer() and all(
        value is None or float(value).is_integer() for row in table.values for value in row
    )
