"""The lint as a gate: what no runtime would load is not written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.contract.remarks import Finding
from quantize.exports import Export, read
from quantize.formats import StorageFormat
from quantize.lint import lint_plan
from quantize.lint.model import Model
from quantize.plan import require_layers
from quantize.runtimes import readers_of

#: Runtime → its findings.
Findings = Mapping[str, tuple[Finding, ...]]


def errors_of(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that stop a file from loading."""
    return tuple(finding for finding in found if finding.severity == "error")


def require_readable(found: Findings, *, insist: bool = False) -> None:
    """Refuse what has errors for every runtime that reads such files.

    Args:
        found: Runtime → findings. Nothing is refused where no runtime is known to read the files.
        insist: Whether errors are passed over.

    Raises:
        InvalidInputError: Every runtime has errors; says those of the one with the fewest.
    """
    errors = {runtime: errors_of(findings) for runtime, findings in found.items()}
    if insist or not errors or not all(errors.values()):
        return
    nearest = min(errors, key=lambda runtime: len(errors[runtime]))
    others = ", ".join(runtime for runtime in errors if runtime != nearest)
    also = f" (nor does {others})" if others else ""
    raise InvalidInputError(*(fault for item in errors[nearest] for fault in _faults(item, nearest, also)))


def findings_of(
    plan: Mapping[str, StorageFormat], model: Model | None, written_for: str, runtime: str | None = None
) -> dict[str, tuple[Finding, ...]]:
    """Lint a plan for the runtimes that read what is to be written.

    Args:
        plan: Layer name to format.
        model: What is known of the model.
        written_for: Backend or export target.
        runtime: The only runtime that matters, or None for all that read such files.

    Returns:
        Runtime → findings.

    Raises:
        InvalidInputError: The runtime is unknown, or does not read such files.

    Example:
        >>> from quantize.formats import parse_format
        >>> found = findings_of({"up": parse_format("int3-g64")}, None, "compressed-tensors")
        >>> [(runtime, [item.severity for item in items]) for runtime, items in found.items()]
        [('vllm', ['warning']), ('sglang', ['error']), ('transformers', [])]
    """
    readers = readers_of(written_for)
    if runtime is not None and runtime not in readers:
        known = ", ".join(readers) or "none of those known here"
        detail = f"{runtime!r} does not read {written_for}, which {known} read"
        raise InvalidInputError(Fault("/runtime", detail))
    names = {layer: fmt.name for layer, fmt in plan.items()}
    return {reader: lint_plan(names, reader, model) for reader in readers if runtime in {None, reader}}


def findings_of_export(
    done: Export,
    layers: Iterable[str],
    model: Model | None,
    *,
    names: Mapping[str, str] | None = None,
    runtime: str | None = None,
) -> dict[str, tuple[Finding, ...]]:
    """Lint the files of an export: a format that the target lacks has become another there.

    Args:
        layers: Layers of the plan.
        model: What is known of the model.
        names: Layer name to the target's own name for it, as for the export.
        runtime: The only runtime that matters, or None for all that read such files.

    Returns:
        Runtime → findings.

    Raises:
        InvalidInputError: The runtime is unknown, or no runtime is known for the target and the model lacks a layer.
    """
    planned = tuple(layers)
    if model is not None and not readers_of(done.target):
        # Nobody's rules are known here, but what a model does not have is quantized by no tool.
        require_layers(planned, model.shapes)
    read_back = read(done.target, done.files, layers=planned, names=names)
    return findings_of(read_back.formats, model or Model(dict.fromkeys(planned)), done.target, runtime)


def _faults(finding: Finding, runtime: str, also: str) -> list[Fault]:
    detail = f"{runtime} would not load it{also}: {finding.detail}; {finding.advice}, or insist with force"
    if not finding.layers:
        return [Fault("/assignment", detail)]
    return [Fault(pointer(("assignment", layer)), detail) for layer in finding.layers]
