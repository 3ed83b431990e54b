"""Lint: would a runtime load this plan, and run what was planned?

To add a runtime: write ``quantize/lint/<name>.py`` with a ``RUNTIME`` and list it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from allocator import Allocation, Fault, InvalidInputError
from allocator.contract.errors import unknown
from quantize.exports import load_target, read
from quantize.exports.reading import rules_of
from quantize.formats import StorageFormat
from quantize.lint.findings import Case, Finding, Runtime
from quantize.lint.foreign import foreign
from quantize.lint.model import Model, model_of_folder, model_of_profile
from quantize.lint.rules import readable
from quantize.plan import formats_of

__all__ = [
    "RUNTIMES",
    "Finding",
    "Model",
    "lint_files",
    "lint_plan",
    "load_runtime",
    "model_of_folder",
    "model_of_profile",
]

RUNTIMES = {
    "vllm": "quantize.lint.vllm",
    "sglang": "quantize.lint.sglang",
    "llama.cpp": "quantize.lint.llama_cpp",
    "onnxruntime": "quantize.lint.onnxruntime",
    "torchao": "quantize.lint.torchao",
}


def load_runtime(name: str) -> Runtime:
    """Look a runtime up by name.

    Args:
        name: A name in :data:`RUNTIMES`.

    Returns:
        The runtime.

    Raises:
        InvalidInputError: The name is unknown.
    """
    if name not in RUNTIMES:
        raise InvalidInputError(Fault("/runtime", unknown(name, RUNTIMES, "runtime")))
    runtime: Runtime = import_module(RUNTIMES[name]).RUNTIME
    return runtime


def lint_plan(
    plan: Allocation | Mapping[str, str], runtime: str, model: Model | None = None
) -> tuple[Finding, ...]:
    """Say what a runtime would trip over in a plan.

    Args:
        plan: An allocation, or layer name to format name.
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
    of = load_runtime(runtime)
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
    of = load_runtime(runtime)
    layers = None if model is None else tuple(model.shapes)
    reading = read(target, files, layers=layers, names=names)
    rules = rules_of(load_target(target), files)
    case = Case(reading.formats, model or _only(reading.formats), target, reading.unused, rules)
    return _findings(case, of)


def _only(formats: Mapping[str, StorageFormat]) -> Model:
    return Model(dict.fromkeys(formats))


def _findings(case: Case, runtime: Runtime) -> tuple[Finding, ...]:
    found = [
        *readable(case, runtime.reads),
        *foreign(case),
        *(finding for check in runtime.checks for finding in check(case)),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))
