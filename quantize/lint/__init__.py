"""Lint: would a runtime load this plan, and run what was planned?

What each runtime loads is in its table in :mod:`quantize.runtimes`; the rules are in :mod:`quantize.lint.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping

from allocator import Allocation
from allocator.contract.allocation import PlanSource
from allocator.contract.remarks import Finding
from quantize.exports import EXPORTS, read
from quantize.exports.reading import rules_of
from quantize.formats import StorageFormat
from quantize.lint.findings import Case, Check
from quantize.lint.foreign import disagreements
from quantize.lint.model import Model, model_of_folder, model_of_profile
from quantize.lint.rules import (
    architecture,
    experts,
    fused_shards,
    nameless,
    objected,
    readable,
    rules_survive_fusion,
    tied_weights,
    unknown_names,
)
from quantize.plan import formats_of
from quantize.runtimes import RUNTIMES, Capabilities

__all__ = [
    "RUNTIMES",
    "Finding",
    "Model",
    "lint_files",
    "lint_plan",
    "model_of_folder",
    "model_of_profile",
    "Allocation",
]


def lint_plan(plan: PlanSource, runtime: str, model: Model | None = None) -> tuple[Finding, ...]:
    """Say what a runtime would trip over in a plan.

    Args:
        plan: An allocation, layer name to format name, or the path of a JSON file of either.
        runtime: A name in :data:`RUNTIMES`.
        model: What is known of the model; without it names, shapes and ties are not checked.

    Returns:
        Findings, errors first.

    Raises:
        InvalidInputError: The runtime or a format is unknown, or there is no plan.

    Example:
        >>> (finding,) = lint_plan({"attn.q_proj": "int4-g64", "attn.k_proj": "int8-g64"}, "vllm")
        >>> finding.severity, finding.rule
        ('error', 'fused-shards')
    """
    of = RUNTIMES.find(runtime)
    formats = formats_of(plan)
    return _findings(Case(formats, model or _only(formats)), of)


def lint_files(
    target: str,
    files: Mapping[str, str],
    runtime: str,
    model: Model | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple[Finding, ...]:
    """Say what a runtime would trip over in a configuration, ours or anybody's.

    Args:
        target: Whose configuration it is: a name in ``quantize.exports.EXPORTS``.
        files: File name → text.
        runtime: A name in :data:`RUNTIMES`.
        model: What is known of the model; files that name layers by pattern need it.
        names: Layer name to the target's own name for it.

    Returns:
        Findings, errors first.

    Raises:
        InvalidInputError: A name is unknown, or the files cannot be read.
    """
    of = RUNTIMES.find(runtime)
    layers = None if model is None else tuple(model.shapes)
    reading = read(target, files, layers=layers, names=names)
    whose = EXPORTS.find(target)
    rules = rules_of(whose, files)
    known = model or _only(reading.formats)
    case = Case(reading.formats, known, target, reading.unused, rules, reading.unruled, whose.unnamed)
    return _findings(case, of)


def _only(formats: Mapping[str, StorageFormat]) -> Model:
    return Model(dict.fromkeys(formats))


def _findings(case: Case, table: Capabilities) -> tuple[Finding, ...]:
    found = [
        *readable(case, table.reads),
        *disagreements(case),
        *(finding for check in _checks(table) for finding in check(case)),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def _checks(table: Capabilities) -> tuple[Check, ...]:
    return (
        *((fused_shards, rules_survive_fusion) if table.fuses else ()),
        *((experts(whole_block=table.experts == "block"),) if table.experts else ()),
        tied_weights,
        unknown_names,
        architecture(table),
        objected(table),
        *((nameless(table.own_name, table.elsewhere),) if table.own_name else ()),
    )
