"""Checks that runtimes share; each is made for a runtime from what that runtime can do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from allocator.contract.errors import unknown
from allocator.contract.remarks import Finding
from quantize.exports.rules import Rules, resolve
from quantize.formats import StorageFormat
from quantize.fused import expert_blocks, fused_groups
from quantize.lint.findings import Case, Check
from quantize.runtimes.capabilities import Capabilities, Objection, kind_of_name, objections


def fused_shards(case: Case) -> Iterator[Finding]:
    """Layers that become one at load have to share one format.

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


def objected(table: Capabilities) -> Check:
    """What the runtime has against layers one by one: formats without code, kinds that stay, shapes that do not fit.

    Returns:
        The check; layers with the same complaint are one finding.
    """

    def check(case: Case) -> Iterator[Finding]:
        found: dict[Objection, list[str]] = {}
        for layer, fmt in case.formats.items():
            shape = case.model.shapes.get(layer)
            for objection in objections(table, kind_of_name(layer, shape), shape, fmt):
                found.setdefault(objection, []).append(layer)
        for item, layers in found.items():
            if item.rule in {"group-sizes", "kernel-shapes"}:  # each with the numbers of its own layer
                yield from (
                    Finding(item.severity, item.rule, (layer,), item.detail, item.advice) for layer in layers
                )
            else:
                yield Finding(item.severity, item.rule, tuple(layers), item.detail, item.advice)

    return check


def architecture(table: Capabilities) -> Check:
    """Models of which the runtime loads no quantized weights at all.

    Args:
        table: The runtime.

    Returns:
        The check; at most one finding.
    """

    def check(case: Case) -> Iterator[Finding]:
        reason = table.unloadable(case.model.kind, tuple(case.model.shapes))
        if reason is not None and not all(fmt.plain for fmt in case.formats.values()):
            yield Finding("error", "architecture", (), reason, "choose another runtime for this model")

    return check


def nameless(own_name: Callable[[str], str | None], elsewhere: Callable[[str], str | None]) -> Check:
    """Layers whose tensor is not known by name are passed over.

    Args:
        own_name: Layer → the runtime's name for it.
        elsewhere: Layer → why the runtime keeps it in a file of its own, which another plan may leave out.

    Returns:
        The check; one finding for all such layers.
    """

    def check(case: Case) -> Iterator[Finding]:
        lost = tuple(
            layer
            for layer in case.formats
            if own_name(layer) is None and not (case.target and elsewhere(layer))
        )
        if lost:
            detail = "no tensor is known for these layers, so no pattern can name them"
            yield Finding("warning", "names", lost, detail, "give the tensors' names when exporting")

    return check


def rules_survive_fusion(case: Case) -> Iterator[Finding]:
    """Some loaders look a fused layer up by its fused name, which rules for its shards do not match.

    That is so for ``dynamic`` rules. Parts of names that are left alone, and the only parts that are quantized, are
    compared with the shards.

    Yields:
        One finding per fused layer that would get another format than its shards.
    """
    if case.target != "gptqmodel" or case.rules is None:
        return
    for fused, shards in (fused_groups(case.formats) | expert_blocks(case.formats)).items():
        mine = {case.formats[shard] for shard in shards}
        if not any(
            rule.mode == "match" and rule.matches(name)
            for rule in case.rules.rules
            for name in (*shards, fused)
        ):
            continue
        theirs = _resolved(case.rules, fused)
        alone = theirs is None and all(fmt.plain for fmt in mine)
        if len(mine) == 1 and theirs not in mine and not alone:
            given = theirs.name if theirs else "no quantization"
            detail = f"the loader looks up {fused!r} and finds {given}, not {mine.pop().name}"
            advice = "write one rule that matches the fused name as well"
            yield Finding("error", "fused-names", shards, detail, advice)


def readable(case: Case, reads: Collection[str]) -> Iterator[Finding]:
    """Whether the runtime loads such files at all.

    Args:
        reads: Targets whose files it loads.

    Yields:
        At most one finding.
    """
    if case.target is not None and case.target not in reads:
        detail = f"it does not load configurations of {case.target}"
        yield Finding("error", "unreadable", (), detail, f"export for one of {', '.join(sorted(reads))}")


def _resolved(rules: Rules, name: str) -> StorageFormat | None:
    return resolve(rules, [name]).formats[name]


def _differ(found: Mapping[str, StorageFormat], layers: Iterable[str]) -> str:
    kinds = dict.fromkeys(found[layer].name for layer in layers)
    return ", ".join(kinds) if len(kinds) > 1 else ""
