"""The whole model as an MPS file, so that anyone can check an answer with a solver of their own.

One binary for every option that a unit (or set of fused units) may take, one row that picks exactly one of them, one
row for each side of each limit. Nothing is reduced, tightened or dropped, and every number is written in full.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from allocator.contract.profile import ProfileSource, load_profile
from allocator.contract.request import RequestFields, make_request
from allocator.knapsack.compile import Compiled, compile_problem
from allocator.knapsack.problem import Problem
from allocator.knapsack.tables import Objective

#: Solvers compare with absolute tolerances: costs are brought near this power of two, by a power of two.
_SCALE_BITS = 20
_MOST_LETTERS = 48


@dataclass(frozen=True)
class Names:
    """How rows and columns are called.

    Attributes:
        columns: (unit, option) → name of the binary.
        units: Name of the row that picks one option, for each unit.
        limits: Name of each limit.
        signs: For each limit 1, or -1 where it is the negative of a demand ("at least").
    """

    columns: Mapping[tuple[int, int], str]
    units: tuple[str, ...]
    limits: tuple[str, ...]
    signs: tuple[float, ...]


@dataclass(frozen=True)
class MpsModel:
    """A model in MPS, and the way back from its solution.

    Attributes:
        text: Free-format MPS.
        plans: Name of each binary → the formats that it gives to its layers.
        fusions: Name of each binary → the fusions that it uses; empty ones left out.
        exponent: Costs in the file are those of the request times 2 to this power.
        goal: What is optimised.
    """

    text: str
    plans: Mapping[str, Mapping[str, str]]
    fusions: Mapping[str, tuple[str, ...]]
    exponent: int
    goal: Objective

    def objective(self, value: float) -> float:
        """Turn an optimum of the file into the objective of the request.

        Args:
            value: What a solver reports for the file.

        Returns:
            The same in the unit and direction of the table, constant included.
        """
        return self.goal.reported(float(np.ldexp(value, -self.exponent)))

    def assignment(self, taken: Collection[str]) -> dict[str, str]:
        """Read a plan off the binaries.

        Args:
            taken: Names of the binaries that are 1.

        Returns:
            Layer name to format name.
        """
        return {layer: chosen for name in taken for layer, chosen in self.plans[name].items()}


def export_mps(profile: ProfileSource, **fields: Unpack[RequestFields]) -> MpsModel:
    """Write a request as a MIP, for any solver that reads MPS.

    The objective is always minimised: a table where higher is better is negated. Constants, which readers of MPS do not
    agree on, stay out of the file; :meth:`MpsModel.objective` puts them back. Of several objectives the first is
    written.

    Args:
        profile: A profile, its JSON, or the path of a JSON file.
        **fields: The fields of :class:`~allocator.contract.request.Request`; those that say how to solve change
            nothing.

    Returns:
        The text, and what its names stand for.

    Raises:
        InvalidInputError: Profile or request cannot be used; names every offending field.

    Example:
        >>> profile = {
        ...     "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...     "layers": [{"name": "up"}, {"name": "down"}],
        ...     "costs": {"kl": {"values": [[0.5, 0.125], [0.25, 0.125]]}},
        ...     "resources": {"weight_bytes": {"values": [[50, 100], [50, 100]], "unit": "byte"}},
        ... }
        >>> model = export_mps(profile, budgets={"weight_bytes": 150})
        >>> [line for line in model.text.splitlines() if "most0" in line]  # doctest: +NORMALIZE_WHITESPACE
        [' L most0_weight_bytes',
         ' x0_0_up_int4 most0_weight_bytes 50.0', ' x0_1_up_int8 most0_weight_bytes 100.0',
         ' x1_0_down_int4 most0_weight_bytes 50.0', ' x1_1_down_int8 most0_weight_bytes 100.0',
         ' RHS most0_weight_bytes 150.0']
        >>> model.assignment(["x0_1_up_int8", "x1_0_down_int4"])
        {'up': 'int8', 'down': 'int4'}
    """
    compiled = compile_problem(load_profile(profile), make_request(fields))
    names = _names(compiled)
    members: list[list[int]] = [[] for _ in names.units]
    for layer, unit in enumerate(compiled.set_of_layer.tolist()):
        members[unit].append(layer)
    formats, layers = list(compiled.profile.formats), compiled.profile.layers
    columns = compiled.formats_of_option
    plans = {
        name: {layers[layer].name: formats[columns[layer, option]] for layer in members[unit]}
        for (unit, option), name in names.columns.items()
    }
    fusions = {
        names.columns[where]: tuple(compiled.profile.fusions[index].name for index in used)
        for where, used in compiled.fusions_of_option.items()
        if used and where in names.columns
    }
    exponent = cost_exponent(compiled.problem)
    return MpsModel(to_mps(compiled.problem, names), plans, fusions, exponent, compiled.objectives[0])


def to_mps(problem: Problem, names: Names | None = None) -> str:
    """Write a problem as free-format MPS.

    Args:
        names: What to call rows and columns; numbered where absent.

    Returns:
        The text. Costs are multiplied by 2 to the power of :func:`cost_exponent`.
    """
    return "\n".join(_lines(problem, names or _numbered(problem))) + "\n"


def cost_exponent(problem: Problem) -> int:
    """Return the power of two that brings the largest cost near a million; such a factor rounds nothing."""
    largest = float(np.abs(problem.cost[problem.available]).max())
    return _SCALE_BITS - int(np.frexp(largest)[1]) if largest > 0 else 0


def _lines(problem: Problem, names: Names) -> Iterator[str]:
    exponent = cost_exponent(problem)
    yield f"* Costs are those of the request times 2^{exponent}; minimise."
    yield "NAME bitalloc"
    yield "ROWS"
    yield " N cost"
    yield from (f" E {unit}" for unit in names.units)
    yield from (
        f" {'L' if sign > 0 else 'G'} {row}" for row, sign in zip(names.limits, names.signs, strict=True)
    )
    yield "COLUMNS"
    yield " MARKER 'MARKER' 'INTORG'"
    cost = np.ldexp(problem.cost, exponent)
    spend = np.array(names.signs)[:, None, None] * problem.spend  # (R, U, O)
    entries = np.concatenate([cost[None], spend]).transpose(1, 2, 0).tolist()
    for (unit, option), column in names.columns.items():
        yield f" {column} {names.units[unit]} 1.0"
        yield from _entries(column, ("cost", *names.limits), entries[unit][option])
    yield " MARKER 'MARKER' 'INTEND'"
    yield "RHS"
    yield from (f" RHS {unit} 1.0" for unit in names.units)
    yield from _entries("RHS", names.limits, (np.array(names.signs) * problem.limit).tolist())
    yield "BOUNDS"
    yield from (f" BV BND {column}" for column in names.columns.values())
    yield "ENDATA"


def _entries(column: str, rows: tuple[str, ...], values: list[float]) -> Iterator[str]:
    yield from (f" {column} {row} {value!r}" for row, value in zip(rows, values, strict=True) if value != 0)


def _numbered(problem: Problem) -> Names:
    options = np.argwhere(problem.available).tolist()
    return Names(
        columns={(unit, option): f"x{unit}_{option}" for unit, option in options},
        units=tuple(f"one{unit}" for unit in range(problem.units)),
        limits=tuple(f"most{limit}" for limit in range(problem.limits)),
        signs=(1.0,) * problem.limits,
    )


def _names(compiled: Compiled) -> Names:
    problem = compiled.problem
    first = np.full(problem.units, -1)
    first[compiled.set_of_layer[::-1]] = np.arange(compiled.set_of_layer.size)[::-1]
    layers = [_readable(compiled.profile.layers[layer].name) for layer in first.tolist()]
    formats = [_readable(name) for name in compiled.profile.formats]

    def column(unit: int, option: int) -> str:
        label = int(problem.label[unit, option])
        return f"x{unit}_{option}_{layers[unit]}_{formats[label] if label >= 0 else 'mixed'}"

    return Names(
        columns={
            (unit, option): column(unit, option) for unit, option in np.argwhere(problem.available).tolist()
        },
        units=tuple(f"one{unit}_{layer}" for unit, layer in enumerate(layers)),
        limits=tuple(
            f"{'most' if sign > 0 else 'least'}{at}_{_readable(row.name)}"
            for at, (row, sign) in enumerate(compiled.sides)
        ),
        signs=tuple(sign for _, sign in compiled.sides),
    )


def _readable(name: str) -> str:
    # Spaces end a name in MPS, and readers differ in what else they allow and in how long names may be.
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[-_MOST_LETTERS:]
