"""Checks that runtimes share; each is made for a runtime from what that runtime can do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from allocator.contract.errors import unknown
from quantize.exports.rules import EMBEDDINGS, Rules, resolve
from quantize.formats import StorageFormat, flat_shape
from quantize.fused import expert_blocks, fused_groups
from quantize.lint.findings import Case, Check, Finding, Severity


def fused_shards(case: Case) -> Iterator[Finding]:
    """Layers that become one at load have to share one format.

    Args:
        case: What is linted.

    Yields:
        One finding per fused layer whose shards differ.
    """
    for fused, shards in fused_groups(case.formats).items():
        if found := _differ(case.formats, shards):
            detail = f"{fused} is loaded as one layer, but its shards have {found}"
            advice = (
                "give them one format: the loader may refuse the model, or take the first shard's for all"
            )
            yield Finding("error", "fused-shards", shards, detail, advice)


def experts(*, whole_block: bool) -> Check:
    """Experts of a block are one stack of weights.

    Args:
        whole_block: Whether all their projections have to agree, rather than each projection for itself.

    Returns:
        The check.
    """

    def check(case: Case) -> Iterator[Finding]:
        for stack, layers in expert_blocks(case.formats, by_projection=not whole_block).items():
            if found_formats := _differ(case.formats, layers):
                detail = f"{stack} is one stack of weights, but its experts have {found_formats}"
                yield Finding("error", "experts", layers, detail, "give all of them one format")

    return check


def tied_weights(case: Case) -> Iterator[Finding]:
    """Layers that share a weight cannot have two formats.

    Args:
        case: What is linted.

    Yields:
        One finding per weight that would be split.
    """
    for group in case.model.tied:
        planned = [layer for layer in group if layer in case.formats]
        if found := _differ(case.formats, planned):
            advice = "give them one format, or untie them and count both"
            yield Finding(
                "error", "tied-weights", tuple(planned), f"they share one weight, but have {found}", advice
            )


def unknown_names(case: Case) -> Iterator[Finding]:
    """Names that match nothing are passed over in silence by most loaders.

    Args:
        case: What is linted.

    Yields:
        One finding per layer that the model lacks, and one per pattern without a layer.
    """
    for layer in case.formats:
        if layer not in case.model.shapes:
            detail = unknown(layer, case.model.shapes, "layer")
            yield Finding(
                "error", "unknown-names", (layer,), detail, "the plan is for another model, or misspelt"
            )
    for pattern in case.unused:
        detail = f"the pattern {pattern!r} matches no layer of the model"
        yield Finding("warning", "unknown-names", (), detail, "check names and prefixes, or remove it")


def group_sizes(*, severity: Severity = "error", consequence: str = "the loader refuses the layer") -> Check:
    """Groups have to divide the row.

    Args:
        severity: How bad it is for the runtime.
        consequence: What the runtime does.

    Returns:
        The check.
    """

    def check(case: Case) -> Iterator[Finding]:
        for layer, fmt in case.formats.items():
            shape = case.model.shapes.get(layer)
            if shape is None or fmt.group_size is None:
                continue
            _, row = flat_shape(shape)
            if row % fmt.group_size:
                detail = f"groups of {fmt.group_size} do not divide rows of {row}: {consequence}"
                divisors = [
                    size for size in (128, 64, 32, 16, 8, 4, 2) if row % size == 0 and size < fmt.group_size
                ]
                advice = f"use groups of {divisors[0]} or whole rows" if divisors else "use whole rows"
                yield Finding(severity, "group-sizes", (layer,), detail, advice)

    return check


def formats(supported: Callable[[StorageFormat], tuple[Severity, str] | None], advice: str) -> Check:
    """Formats that a runtime has no code for.

    Args:
        supported: StorageFormat → nothing, or how bad it is and why.
        advice: What to do.

    Returns:
        The check; layers with the same complaint are one finding.
    """

    def check(case: Case) -> Iterator[Finding]:
        complaints: dict[tuple[Severity, str], list[str]] = {}
        for layer, fmt in case.formats.items():
            if not _plain(fmt) and (complaint := supported(fmt)) is not None:
                complaints.setdefault(complaint, []).append(layer)
        for (severity, detail), layers in complaints.items():
            yield Finding(severity, "formats", tuple(layers), detail, advice)

    return check


def embeddings_stay(case: Case) -> Iterator[Finding]:
    """Embeddings are looked up, not multiplied, and most servers keep them in floating point.

    Args:
        case: What is linted.

    Yields:
        One finding for all quantized embeddings.
    """
    found = [layer for layer, kind in case.formats.items() if EMBEDDINGS.search(layer) and not _plain(kind)]
    if found:
        detail = "the runtime keeps embeddings in floating point and does not find the weight it looks for"
        yield Finding("error", "embeddings", tuple(found), detail, "leave embeddings as they are")


def rules_survive_fusion(case: Case) -> Iterator[Finding]:
    """Some loaders look a fused layer up by its fused name, which rules for its shards do not match.

    Args:
        case: What is linted.

    Yields:
        One finding per fused layer that would get another format than its shards.
    """
    if case.target != "gptqmodel" or case.rules is None:
        return
    for fused, shards in (fused_groups(case.formats) | expert_blocks(case.formats)).items():
        mine = {case.formats[shard] for shard in shards}
        theirs = _resolved(case.rules, fused)
        alone = theirs is None and all(_plain(fmt) for fmt in mine)
        if len(mine) == 1 and theirs not in mine and not alone:
            given = theirs.name if theirs else "no quantization"
            detail = f"the loader looks up {fused!r} and finds {given}, not {mine.pop().name}"
            advice = "write one rule that matches the fused name as well"
            yield Finding("error", "fused-names", shards, detail, advice)


def readable(case: Case, reads: Collection[str]) -> Iterator[Finding]:
    """Whether the runtime loads such files at all.

    Args:
        case: What is linted.
        reads: Targets whose files it loads.

    Yields:
        At most one finding.
    """
    if case.target is not None and case.target not in reads:
        detail = f"it does not load configurations of {case.target}"
        yield Finding("error", "unreadable", (), detail, f"export for one of {', '.join(sorted(reads))}")


def _resolved(rules: Rules, name: str) -> StorageFormat | None:
    return resolve(rules, [name]).formats[name]


def _plain(fmt: StorageFormat) -> bool:
    return fmt.floating and fmt.name in {"fp16", "bf16", "fp32"}


def _differ(found: Mapping[str, StorageFormat], layers: Iterable[str]) -> str:
    kinds = dict.fromkeys(found[layer].name for layer in layers)
    return ", ".join(kinds) if len(kinds) > 1 else ""
