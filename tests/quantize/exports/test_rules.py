"""Rules apply in order, first come first served, and rules without a layer are named."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import InvalidInputError
from quantize.exports.rules import Rule, Rules, exact, expression, resolve, shell
from quantize.formats import parse_format
from tests.quantize.exports.plans import by_definition

INT4, INT8 = parse_format("int4"), parse_format("int8")
NAMES = ["a", "b", "ab", "a.b", "b.a"]
RULES = st.builds(
    lambda kind, text, target: {
        "exact": lambda: exact(text, target),
        "shell": lambda: shell(text, target),
        "fullmatch": lambda: expression(text, target, "fullmatch", ""),
        "match": lambda: expression(text, target, "match", ""),
        "search": lambda: expression(text, target, "search", ""),
    }[kind](),
    st.sampled_from(["exact", "shell", "fullmatch", "match", "search"]),
    st.sampled_from([*NAMES, "a*", "^a$", "b$", r"a\.b", ".*"]),
    st.sampled_from([None, INT4, INT8]),
)


@given(rules=st.lists(RULES, max_size=6), default=st.sampled_from([None, INT4]))
def test_the_first_rule_that_matches_decides(rules: list[Rule], default: object) -> None:
    found = resolve(Rules(tuple(rules), default), NAMES)  # type: ignore[arg-type]
    pairs = [(rule, rule.format) for rule in rules]
    assert found.formats == {name: by_definition(pairs, name, default) for name in NAMES}  # type: ignore[arg-type]


@given(rules=st.lists(RULES, max_size=6))
def test_a_pattern_without_a_layer_is_named(rules: list[Rule]) -> None:
    unused = resolve(Rules(tuple(rules)), NAMES).unused
    assert set(unused) == {rule.text for rule in rules if not any(rule.matches(name) for name in NAMES)}


@given(rule=RULES)
def test_a_rule_with_one_name_matches_only_that(rule: Rule) -> None:
    if rule.name is not None:
        assert [name for name in [*NAMES, rule.name] if rule.matches(name)] == [
            name for name in [*NAMES, rule.name] if name == rule.name
        ]


def test_layers_that_the_target_cannot_name_are_left_alone() -> None:
    found = resolve(Rules((), INT4), ["a", "b"], lambda layer: None if layer == "a" else layer)
    assert found.formats == {"a": None, "b": INT4}


def test_the_first_of_two_rules_for_a_name_decides_without_a_model() -> None:
    assert resolve(Rules((exact("a", INT4), exact("a", INT8))), None).formats == {"a": INT4}


def test_patterns_without_a_model_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"/layers: the file names layers by pattern \('a\*'\)"):
        resolve(Rules((shell("a*", INT4),)), None)


def test_a_broken_expression_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInputError, match=r"/here: '\(' is no regular expression: missing \)"):
        expression("(", INT4, "search", "/here")


def test_an_expression_knows_its_only_name() -> None:
    assert expression(r"^a\.b$", None, "search", "").name == "a.b"
    assert expression(r"a\.b$", None, "search", "").name is None
    assert expression(r"a\.b$", None, "match", "").name == "a.b"
    assert expression(r"a\.b", None, "match", "").name is None
    assert expression(r"a\.b", None, "fullmatch", "").name == "a.b"
    assert re.fullmatch(r"a\.b", "a.b")
