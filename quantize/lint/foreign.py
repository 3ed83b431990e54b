"""Files that tools read in different ways: what one takes and another refuses, or reads otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from allocator.contract.remarks import Finding
from quantize.exports.rules import Rule, Rules
from quantize.lint.findings import Case


def disagreements(case: Case) -> Iterator[Finding]:
    """Look for what tools do not agree on.

    Yields:
        One finding per doubt of the reader, and one for all layers that rules of two formats name.
    """
    if case.rules is None:
        return
    for doubt in case.rules.doubts:
        what, _, advice = doubt.rpartition("; ")
        yield Finding("warning", "reading", (), what, advice)
    if case.unruled:
        detail = f"no line is about these layers: they get {case.unnamed}, as the command line names it"
        yield Finding(
            "warning", "unnamed", case.unruled, detail, "name them too, or mind what you give there"
        )
    torn = tuple(layer for layer in case.formats if _torn(case.rules, layer))
    if torn:
        detail = (
            "names and expressions of several formats match these layers: compressed-tensors takes an exact name, then "
            "the expression that is first in alphabetical order; vLLM and SGLang take the first in the file"
        )
        yield Finding("warning", "precedence", torn, detail, "let only one of them match")


def _torn(rules: Rules, layer: str) -> bool:
    hits = [rule for rule in rules.rules if rule.matches(layer)]
    if not hits or hits[0].place is None:
        return False
    named = [rule for rule in hits if rule.place is not None and not _is_class(rule)]
    return bool(named) and min(named, key=lambda rule: rule.place or 0).format != named[0].format


def _is_class(rule: Rule) -> bool:
    return rule.text.isidentifier() and rule.name is None
