"""Exports: a plan in another tool's own configuration format, and back.

To add one: write ``quantize/exports/<name>.py`` with a ``TARGET`` and list it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from allocator import Allocation, Fault, InvalidInputError
from allocator.contract.allocation import PlanSource
from allocator.contract.errors import pointer
from allocator.contract.registry import Registry
from allocator.contract.remarks import Loss
from quantize.exports.fit import fit as fitted
from quantize.exports.reading import rules_of
from quantize.exports.result import Export, Reading, write
from quantize.exports.rules import resolve
from quantize.exports.target import ExportTarget
from quantize.formats import StorageFormat
from quantize.llama_types import format_named, formats_named
from quantize.plan import assignment_of

__all__ = [
    "EXPORTS",
    "Export",
    "Loss",
    "Reading",
    "export",
    "read",
    "read_files",
    "write",
    "Allocation",
]

EXPORTS = Registry[ExportTarget](
    "target",
    {
        "torchao": "quantize.exports.torchao",
        "compressed-tensors": "quantize.exports.compressed_tensors",
        "llm-compressor": "quantize.exports.llm_compressor",
        "gptqmodel": "quantize.exports.gptqmodel",
        "auto-round": "quantize.exports.auto_round",
        "llama.cpp": "quantize.exports.llama_cpp",
        "mlx": "quantize.exports.mlx",
        "onnxruntime": "quantize.exports.onnxruntime",
        "olive": "quantize.exports.olive",
        "nncf": "quantize.exports.nncf",
        "modelopt": "quantize.exports.modelopt",
        "quanto": "quantize.exports.quanto",
        "quark": "quantize.exports.quark",
        "litert": "quantize.exports.litert",
    },
    attribute="TARGET",
)


def export(
    plan: PlanSource,
    target: str,
    *,
    others: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
    shapes: Mapping[str, tuple[int, ...] | None] | None = None,
    strict: bool = False,
) -> Export:
    """Write a plan in a target's configuration format.

    A format that the target cannot express becomes the nearest one it can (the same bits and groups with a zero
    point) or leaves the layer as it is; each such layer is in the loss report.

    Args:
        plan: An allocation, layer name to format name, or the path of a JSON file of either.
        target: A name in :data:`EXPORTS`.
        others: Layers outside the plan, which the file should say to leave alone.
        names: Layer name to the target's own name for it, where the target's rule does not give it (nodes of an
            ONNX graph, tensors of a GGUF file).
        shapes: Layer name to the shape of its weight: then groups that do not make up a row become finer ones, or the
            layer is left alone, where the tool would refuse it.
        strict: Whether a loss is an error.

    Returns:
        Files, losses and what to do with the files.

    Raises:
        InvalidInputError: The target or a format is unknown, there is no plan, nothing in it can be expressed, or
            something is lost and ``strict``.

    Example:
        >>> print(export({"up": "int4-g64", "down": "fp16"}, "quanto").losses[0])
        up: int4-g64 becomes uint4-g128: ...
    """
    into = EXPORTS.find(target)
    sheet, losses = fitted(_formats(plan, into), into, tuple(others), dict(names or {}), shapes or {})
    if strict and losses:
        raise InvalidInputError(*(Fault(pointer(("assignment", loss.layer)), str(loss)) for loss in losses))
    return Export(target, into.render(sheet), losses, into.advice)


def read(
    target: str,
    files: Mapping[str, str],
    *,
    layers: Iterable[str] | None = None,
    names: Mapping[str, str] | None = None,
    native: str = "fp16",
) -> Reading:
    """Read a target's files back into a plan; foreign files too.

    Args:
        target: A name in :data:`EXPORTS`.
        files: File name → text.
        layers: Layers of the model: each gets an entry. Files that name layers by pattern need them; without them
            only layers that the files spell out are known.
        names: Layer name to the target's own name for it, as for :func:`export`.
        native: Format of layers that the files leave as they are.

    Returns:
        The plan, patterns that match nothing, and what else the files say.

    Raises:
        InvalidInputError: The target is unknown, or the files are not its.

    Example:
        >>> read("quanto", export({"up": "int8", "down": "fp16"}, "quanto").files).assignment
        {'up': 'int8', 'down': 'fp16'}
    """
    of = EXPORTS.find(target)
    rules = rules_of(of, files)
    given = dict(names or {})
    found = resolve(rules, layers, lambda layer: given.get(layer) or of.own_name(layer))
    back = {own: layer for layer, own in given.items()}
    left = format_named(native)
    formats = {
        (name if layers is not None else back.get(name) or of.layer_name(name)): target_format or left
        for name, target_format in found.formats.items()
    }
    unruled = tuple(
        name
        for name in found.unruled
        if of.unnamed and not of.refuses(given.get(name) or of.own_name(name) or "")
    )
    return Reading(target, formats, found.unused, rules.notes, unruled)


def read_files(target: str, path: Path) -> dict[str, str]:
    """Load the files of a target.

    Args:
        target: A name in :data:`EXPORTS`, for the message.
        path: A file, or the folder that an export was written to.

    Returns:
        File name → text.

    Raises:
        InvalidInputError: Nothing can be read there.
    """
    try:
        # A file that is named is read whatever its ending; of a folder, what may be a configuration.
        paths = (
            [item for item in sorted(path.iterdir()) if item.suffix in _SUFFIXES] if path.is_dir() else [path]
        )
        return {item.name: item.read_text("utf-8") for item in paths}
    except (OSError, UnicodeDecodeError) as error:
        detail = f"cannot read a {target} configuration at {str(path)!r}: {error}"
        raise InvalidInputError(Fault("", detail)) from error


_SUFFIXES = {".json", ".yaml", ".yml", ".txt", ".recipe"}


def _formats(plan: PlanSource, target: ExportTarget) -> dict[str, StorageFormat]:
    assignment = assignment_of(plan, "export")
    return formats_named(assignment, lambda name: target.formats.get(name) or format_named(name))
