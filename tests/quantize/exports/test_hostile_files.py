"""Configurations that somebody writes to break the reader: refused, soon, with what is wrong."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from allocator import Fault, InvalidInputError
from quantize.exports import EXPORTS, export, read
from quantize.exports.documents import read_yaml
from quantize.exports.rules import expression
from quantize.lint import lint_files
from quantize.lint.model import Model

EVIL = "re:^(a+)+$"
LAYER = "a" * 60 + "!"
_WEIGHTS = {"num_bits": 4, "group_size": 64}


def compressed(pattern: str) -> dict[str, str]:
    group = {"targets": [pattern], "weights": _WEIGHTS}
    return {"config.json": json.dumps({"quantization_config": {"config_groups": {"group_0": group}}})}


#: A file of each target that takes expressions, with one that backtracks.
BACKTRACKING: dict[str, dict[str, str]] = {
    "compressed-tensors": compressed(EVIL),
    "torchao": {
        "config.json": json.dumps(
            {
                "quantization_config": {
                    "quant_type": {
                        "default": {
                            "_type": "FqnToConfig",
                            "_data": {
                                "fqn_to_config": {
                                    EVIL: {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {}}
                                }
                            },
                        }
                    }
                }
            }
        )
    },
    "gptqmodel": {
        "quantize_config.json": json.dumps(
            {"bits": 4, "group_size": 128, "sym": True, "dynamic": {"+:^(a+)+$": {"bits": 8}}}
        )
    },
    "auto-round": {"layer_config.json": json.dumps({"^(a+)+$": {"bits": 4}})},
    "llama.cpp": {"tensor_types.txt": "^(a+)+$=q8_0\n"},
    "litert": {
        "recipe.json": json.dumps([{"regex": "^(a+)+$", "operation": "*", "algorithm_key": "no_quantize"}])
    },
    "nncf": {"passes.json": json.dumps({"passes": [{"ignored_scope": {"patterns": ["^(a+)+$"]}}]})},
}


@pytest.mark.parametrize("target", BACKTRACKING)
def test_an_expression_that_backtracks_is_refused_by_its_text(target: str) -> None:
    began = time.process_time()
    with pytest.raises(
        InvalidInputError, match=r"patterns of the file take more than 2 s .*\(a\+\)\+"
    ) as refusal:
        read(target, BACKTRACKING[target], layers=[LAYER], names={LAYER: LAYER})
    assert time.process_time() - began < 8
    assert len(str(refusal.value)) < 1000


def test_lint_refuses_it_too() -> None:
    with pytest.raises(InvalidInputError, match="patterns of the file take more than 2 s"):
        lint_files("compressed-tensors", compressed(EVIL), "vllm", Model({LAYER: None}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(" * 5000 + ")" * 5000, "no regular expression: maximum recursion depth"),
        ("a{99999999999}", "no regular expression: the repetition number is too large"),
        ("(", r"no regular expression: missing \)"),
    ],
)
def test_what_is_no_expression_is_refused_whatever_fails(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as refusal:
        expression(text, None, "match", "/here")
    assert refusal.value.faults[0].pointer == "/here"
    assert len(str(refusal.value)) < 1000


def test_an_expression_that_takes_long_to_compile_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"read within 2 s; config\.json is too large or too intricate"
    ):
        read(
            "compressed-tensors",
            compressed("re:" + "|".join(f"x{n}" for n in range(500_000))),
            layers=["a"],
        )


YAML = {
    "3,000 lists": ("[" * 3000 + "]" * 3000, "nested too deep"),
    "1,000 tables": ("{a: " * 1000 + "1" + "}" * 1000, "nested too deep"),
    "2,000 entries": ("- " * 2000 + "a", "nested too deep"),
    "half a list": ("[" * 100, "expected YAML"),
    "a day that does not exist": ("a: 2001-99-99", "month must be in"),
    "a number that is none": ("a: !!int x", "invalid literal"),
    "a truth value that is none": ("a: !!bool x", "expected YAML: 'x'"),
    "a time that is none": ('!!timestamp "x"', "expected YAML"),
    "digits": ("a: " + "9" * 5000, "expected YAML: Exceeds the limit"),
    "a Python object": ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
    "a list as a key": ("{[1]: 2}", "expected YAML"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_cannot_be_read_is_refused(name: str) -> None:
    text, words = YAML[name]
    with pytest.raises(InvalidInputError, match=words) as refusal:
        read_yaml({"recipe.yaml": text})
    assert refusal.value.faults[0] == Fault("/recipe.yaml", refusal.value.faults[0].detail)


def test_yaml_that_takes_too_long_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="read within 2 s"):
        read_yaml({"recipe.yaml": "[" + "a, " * 300_000 + "]"})


def test_merged_keys_that_would_unfold_without_end_are_read_once() -> None:
    lines = [f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 10)}]}}" for n in range(12)]
    document, _ = read_yaml({"r.yaml": "\n".join(["a0: &a0 {x: 1}", *lines])})
    assert document["a12"] == {"x": 1}


def test_anchors_and_merged_keys_are_read() -> None:
    text = "base: &base {bits: 4, group: 64}\nmine: {<<: *base, bits: 8}\nagain: *base\n"
    assert read_yaml({"r.yaml": text})[0] == {
        "base": {"bits": 4, "group": 64},
        "mine": {"bits": 8, "group": 64},
        "again": {"bits": 4, "group": 64},
    }


def _values() -> list[Any]:
    deep: Any = 1
    for _ in range(150):
        deep = {"a": [deep]}
    return [
        None,
        True,
        0,
        -1,
        10**400,
        1.5,
        "",
        "x",
        [],
        [[]],
        {},
        {"": {}},
        {"a": None},
        deep,
        [deep],
        {"bits": deep},
    ]


def _mutants(document: Any) -> list[Any]:
    """The document with each of its parts replaced by each odd value."""
    found = list(_values())
    if isinstance(document, dict):
        for key, value in document.items():
            found += [{**document, key: mutant} for mutant in _mutants(value)]
    elif isinstance(document, list):
        for at, value in enumerate(document):
            found += [[*document[:at], mutant, *document[at + 1 :]] for mutant in _mutants(value)]
    return found


@pytest.mark.filterwarnings("ignore:Possible nested set")
@pytest.mark.parametrize("target", EXPORTS)
def test_files_with_any_part_replaced_are_read_or_refused(target: str) -> None:
    plan = {"model.layers.0.mlp.up_proj": "int4-g128", "model.layers.0.mlp.down_proj": "int8"}
    files = export(plan, target).files
    for name, text in files.items():
        if name.endswith(".txt"):
            continue
        document = json.loads(text) if name.endswith(".json") else read_yaml({name: text})[0]
        for mutant in _mutants(document):
            changed = {**files, name: json.dumps(mutant)}
            try:
                read(target, changed, layers=list(plan))
            except InvalidInputError as error:
                assert len(str(error)) < 20_000, target  # noqa: PT017 - of either kind
