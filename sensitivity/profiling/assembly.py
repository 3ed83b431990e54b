"""Tables put together as a Profile: rows with their units, nulls with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from allocator import CostTable, Fault, InvalidInputError, Layer, ResourceTable
from allocator.contract.errors import pointer
from quantize import StorageFormat
from quantize.formats import flat_shape
from quantize.llama_types import format_named
from sensitivity.forward.forward_pass import forward_pass
from sensitivity.resources import Resource
from sensitivity.rows import kind_of, weight_shape
from sensitivity.study.study import Estimator, Study
from sensitivity.units.shape_rules import RULES_OF_UNITS, ShapeRule, unfit
from sensitivity.units.unit_rules import UnitRule, units_of

Table = TypeVar("Table", CostTable, ResourceTable)


@dataclass(frozen=True)
class Rules:
    """What holds for rows whatever they cost, settled before anything is measured.

    Attributes:
        units: Row to unit.
        refused: (row, format) → why the row cannot have it.
    """

    units: Mapping[str, str]
    refused: Mapping[tuple[str, str], str]


def rules_of(study: Study, units: str | UnitRule, shape_rules: Sequence[ShapeRule]) -> Rules:
    """Settle units and refused formats.

    Args:
        units: Name of a rule or a rule; see :mod:`sensitivity.units.unit_rules`.
        shape_rules: Rules besides those that come with the units; see :mod:`sensitivity.units.shape_rules`.

    Returns:
        The rules.
    """
    found = units_of(units, study)
    brought = RULES_OF_UNITS.get(units, ()) if isinstance(units, str) else ()
    return Rules(found, unfit(study, (*brought, *shape_rules)))


def layers_of(study: Study, rules: Rules) -> tuple[Layer, ...]:
    """Describe the rows.

    Returns:
        The rows of the profile. An activation does no work of its own and has no ``macs``.
    """
    seen = forward_pass(study)
    described = []
    for row in study.rows:
        shape, kind = weight_shape(row), kind_of(row)
        outputs, inputs = flat_shape(shape) if shape is not None else (0, 0)
        described.append(
            Layer(
                name=row.name,
                kind=kind,
                parameters=None if shape is None else outputs * inputs,
                macs=None if kind == "activation" else seen.macs(row.name),
                unit=rules.units.get(row.name),
            )
        )
    return tuple(described)


def estimated(study: Study, estimators: Mapping[str, Estimator], rules: Rules) -> dict[str, CostTable]:
    """Fill the cost tables.

    Args:
        rules: Entries to leave null.

    Returns:
        Table name to table.

    Raises:
        InvalidInputError: An estimator does not fill all rows.
    """
    tables = {}
    for name, estimate in estimators.items():
        table = estimate(study)
        if len(table.values) != len(study.rows):
            detail = (
                f"the table has {len(table.values)} rows and the profile has {len(study.rows)}; leave out the kinds of "
                "row that this estimator does not fill, or measure them"
            )
            raise InvalidInputError(Fault(pointer(("estimators", name)), detail))
        tables[name] = _with_nulls(table, study, rules.refused)
    return tables


def spent(
    study: Study, resources: Mapping[str, Resource], rules: Rules
) -> tuple[dict[str, ResourceTable], dict[str, str]]:
    """Fill the resource tables.

    Args:
        resources: Table name to resource.
        rules: Entries to leave null.

    Returns:
        Table name to table, and notes for the provenance: JSON pointer → what a table stands on and why an entry is
        null.
    """
    notes = {pointer(("layers", row, fmt)): reason for (row, fmt), reason in rules.refused.items()}
    tables = {}
    for name, count in resources.items():
        found = count(study)
        tables[name] = _with_nulls(found.table, study, rules.refused)
        if found.note:
            notes[pointer(("resources", name))] = found.note
        notes |= {pointer(("resources", name, *entry)): reason for entry, reason in found.reasons.items()}
    return tables, notes


def _with_nulls(table: Table, study: Study, refused: Mapping[tuple[str, str], str]) -> Table:
    if not refused:
        return table

    def kept(rows: Sequence[Sequence[float | None]]) -> tuple[tuple[float | None, ...], ...]:
        return tuple(
            tuple(
                None if (row.name, fmt.name) in refused else value
                for fmt, value in zip(study.formats, values, strict=True)
            )
            for row, values in zip(study.rows, rows, strict=True)
        )

    changed: dict[str, object] = {"values": kept(table.values)}
    if isinstance(table, CostTable) and table.stderr is not None:
        changed["stderr"] = kept(table.stderr)
    return table.model_copy(update=changed)


def columns_of(formats: Sequence[str]) -> tuple[StorageFormat, ...]:
    """Parse the columns of a profile.

    Returns:
        The formats.

    Raises:
        InvalidInputError: There are none, a name is unknown, or two names are of one format.
    """
    columns = tuple(format_named(text) for text in formats)
    names = [fmt.name for fmt in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        said = f"; {', '.join(twice)} comes twice" if twice else ""
        raise InvalidInputError(Fault("/formats", f"expected distinct formats, got {list(formats)}{said}"))
    return columns
