"""What a configuration says about layers: an ordered list of rules, applied to the layers of a model."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from allocator import Fault, InvalidInputError
from allocator.contract.processor_time import ProcessorTimeError, processor_time
from quantize.exports.names import glob_literal, literal
from quantize.formats import StorageFormat

#: Processor time for the patterns of one file, of which whole models need milliseconds.
MOST_S = 2.0
_SHOWN = 200
Mode = Literal["fullmatch", "match", "search"]
#: Embeddings, by the names that transformers gives them; tools that quantize Linear layers pass them over.
EMBEDDINGS = re.compile(r"(?:^|\.)(?:\w*embed_tokens|\w*embeddings?|wte|wpe)$")
HEAD_AND_EMBEDDINGS = re.compile(rf"{EMBEDDINGS.pattern}|(?:^|\.)lm_head$")


@dataclass(frozen=True)
class Rule:
    """Layers of some name get a format.

    Attributes:
        text: The pattern as it stands in the file.
        pattern: The pattern as a regular expression.
        format: What the layers get; None leaves them as they are.
        name: The only name that matches, where there is only one.
        mode: How the runtime applies the expression.
        place: Where it stands in the file, where that is not the order in which the tool itself applies rules, but
            others do; None elsewhere.
        part: Whether the text is a part of names, but only where no layer has it as its whole name.
        suffix: What the tool adds to the name of a layer before it compares.
    """

    text: str
    pattern: re.Pattern[str]
    format: StorageFormat | None
    name: str | None = None
    mode: Mode = "fullmatch"
    place: int | None = None
    part: bool = False
    suffix: str = ""

    def matches(self, name: str) -> bool:
        """Whether the rule is about a layer.

        Args:
            name: Name of the layer, as the runtime knows it.

        Returns:
            True where it is.
        """
        return getattr(self.pattern, self.mode)(name + self.suffix) is not None


@dataclass(frozen=True)
class Rules:
    """A configuration, read.

    Attributes:
        rules: In order; the first that matches decides.
        default: What layers get that no rule matches; None leaves them as they are.
        notes: What the file says beyond formats of weights.
        outside: Names that the default is not for.
        doubts: What a loader may not take as it stands; lint says so.
    """

    rules: tuple[Rule, ...]
    default: StorageFormat | None = None
    notes: tuple[str, ...] = ()
    outside: re.Pattern[str] | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """Rules applied to layers.

    Attributes:
        formats: Layer to what it gets; None where it is left as it is.
        unused: Patterns that match no layer.
        unruled: Layers that no rule and no default is about.
    """

    formats: dict[str, StorageFormat | None]
    unused: tuple[str, ...]
    unruled: tuple[str, ...] = ()


def exact(name: str, fmt: StorageFormat | None) -> Rule:
    """A rule for one name.

    Returns:
        The rule.
    """
    return Rule(name, re.compile(re.escape(name)), fmt, name)


def expression(
    text: str, fmt: StorageFormat | None, mode: Mode, where: str, shown: str | None = None
) -> Rule:
    """A rule by regular expression.

    Args:
        fmt: What matching layers get.
        mode: How the runtime applies it.
        shown: The pattern as it stands in the file, where that is more than the expression.

    Returns:
        The rule.

    Raises:
        InvalidInputError: It is no regular expression.
    """
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        detail = f"{text[:_SHOWN]!r} is no regular expression: {error}"
        raise InvalidInputError(Fault(where, detail)) from error
    closed = mode == "fullmatch" or (text.endswith("$") and (mode == "match" or text.startswith("^")))
    return Rule(shown or text, pattern, fmt, literal(text) if closed else None, mode)


def shell(text: str, fmt: StorageFormat | None) -> Rule:
    """A rule by shell pattern.

    Args:
        fmt: What matching layers get.

    Returns:
        The rule.
    """
    return Rule(text, re.compile(fnmatch.translate(text)), fmt, glob_literal(text))


def resolve(
    rules: Rules, layers: Iterable[str] | None, own_name: Callable[[str], str | None] = lambda name: name
) -> Resolved:
    """Apply rules to layers.

    Args:
        layers: Layers of the model; None takes the names that the rules spell out.
        own_name: How the runtime names a layer; None where it has no name for it.

    Returns:
        What each layer gets, in the order of ``layers``.

    Raises:
        InvalidInputError: The rules name layers by pattern or by default, and no layers were given; or a
            pattern takes too long to match.
    """
    if layers is None:
        return Resolved(_spelled_out(rules), ())
    formats: dict[str, StorageFormat | None] = {}
    used: set[int] = set()
    unruled: list[str] = []
    by_name = {
        rule.name: index for index, rule in reversed(list(enumerate(rules.rules))) if rule.name is not None
    }
    owns = {layer: own_name(layer) for layer in layers}
    whole = set(owns.values())
    patterns = [
        (index, rule)
        for index, rule in enumerate(rules.rules)
        if rule.name is None and not (rule.part and rule.text in whole)
    ]
    with processor_time(MOST_S):
        for layer, own in owns.items():
            if own is None:
                formats[layer] = None
                continue
            hits = _hits(patterns, own)
            hits += [by_name[own]] if own in by_name else []
            used.update(hits)
            default = None if rules.outside is not None and rules.outside.search(own) else rules.default
            formats[layer] = rules.rules[min(hits)].format if hits else default
            unruled += [] if hits or rules.default else [layer]
    return Resolved(formats, _unused(rules.rules, used), tuple(unruled))


def _unused(rules: tuple[Rule, ...], used: set[int]) -> tuple[str, ...]:
    done = [rules[index] for index in used]
    names, texts = {rule.name for rule in done if rule.name is not None}, {rule.text for rule in done}
    # A part of names and a whole name are two readings of one text.
    parts = {rule.text for rule in rules if rule.part} & texts
    left = [rule.text for index, rule in enumerate(rules) if index not in used and rule.name not in names]
    return tuple(dict.fromkeys(text for text in left if text not in parts))


def _hits(patterns: Iterable[tuple[int, Rule]], name: str) -> list[int]:
    hits = []
    for index, rule in patterns:
        try:
            if rule.matches(name):
                hits.append(index)
        except ProcessorTimeError as error:
            detail = (
                f"the patterns of the file take more than {MOST_S:g} s to compare with the names of the layers; "
                f"the last one was {rule.text[:_SHOWN]!r}, make it simpler or name the layers"
            )
            raise InvalidInputError(Fault("", detail)) from error
    return hits


def _spelled_out(rules: Rules) -> dict[str, StorageFormat | None]:
    wide = [rule.text for rule in rules.rules if rule.name is None and not rule.part]
    if rules.default is not None:
        wide.append(f"all others: {rules.default.name}")
    if wide:
        detail = f"the file names layers by pattern ({wide[0]!r}); give the names of the model's layers"
        raise InvalidInputError(Fault("/layers", detail))
    formats: dict[str, StorageFormat | None] = {}
    for rule in rules.rules:
        if rule.name is not None:
            formats.setdefault(rule.name, rule.format)
    return formats
