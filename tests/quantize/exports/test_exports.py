"""Every export keeps its contract: what is written reads back as the plan, and what is lost is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import InvalidInputError, solve
from quantize.exports import EXPORTS, Export, export, read, read_files, write
from quantize.exports.target import ROW
from quantize.formats import parse_format
from tests.api.helpers import tiny
from tests.quantize.exports.plans import (
    ANY_FORMAT,
    LLAMA,
    SPELLED_OUT,
    TARGETS,
    formats_of,
    names_for,
    quantizes,
)


def _plans(target: str, formats: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    names = st.sampled_from(names_for(target))
    return st.dictionaries(names, formats, min_size=1, max_size=8).filter(quantizes)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.thorough
def test_what_a_target_can_say_comes_back_as_it_was(target: str, data: st.DataObject) -> None:
    plan = data.draw(_plans(target, st.sampled_from(formats_of(target))))
    done = export(plan, target)
    assert done.losses == ()
    reading = read(target, done.files, layers=plan)
    assert reading.assignment == plan
    assert list(reading.assignment) == list(plan)
    assert reading.unused == ()
    assert reading.notes == ()


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.thorough
def test_what_a_target_cannot_say_is_in_the_loss_report(target: str, data: st.DataObject) -> None:
    plan = data.draw(_plans(target, ANY_FORMAT))
    native = next((name for name in ("fp16", "bf16", "fp32") if name in plan.values()), "fp16")
    try:
        done = export(plan, target)
    except InvalidInputError as error:
        assert "no layer of the plan can be expressed" in str(error)  # noqa: PT017 - only some plans are refused
        return
    reported = {loss.layer: loss for loss in done.losses}
    assert all(plan[layer] == loss.wanted != loss.instead for layer, loss in reported.items())
    expected = {layer: reported[layer].instead if layer in reported else name for layer, name in plan.items()}
    if len({"fp16", "bf16", "fp32"} & set(plan.values())) <= 1:
        assert read(target, done.files, layers=plan, native=native).assignment == expected
    for layer, loss in reported.items():
        instead = EXPORTS[target].formats.get(loss.instead) or parse_format(loss.instead)
        assert instead.floating or instead.bits == parse_format(plan[layer]).bits


@pytest.mark.parametrize("target", SPELLED_OUT)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
@pytest.mark.thorough
def test_files_that_spell_out_every_layer_need_no_model(target: str, data: st.DataObject) -> None:
    plan = data.draw(_plans(target, st.sampled_from(formats_of(target))))
    named = {layer: name for layer, name in plan.items() if target != "nncf" or name != "fp16"}
    assert read(target, export(plan, target).files).assignment == named


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.thorough
def test_layers_outside_the_plan_are_left_alone(target: str, data: st.DataObject) -> None:
    plan = data.draw(_plans(target, st.sampled_from(formats_of(target))))
    others = [layer for layer in names_for(target) if layer not in plan]
    reading = read(target, export(plan, target, others=others).files, layers=[*plan, *others])
    assert reading.assignment == plan | dict.fromkeys(others, "fp16")


@pytest.mark.parametrize("target", SPELLED_OUT)
@pytest.mark.thorough
def test_a_pattern_for_a_layer_matches_no_other(target: str) -> None:
    names = names_for(target)
    some = formats_of(target)[0]
    for layer in names:
        reading = read(target, export({layer: some}, target).files, layers=names)
        assert [name for name, given in reading.assignment.items() if given == some] == [layer]


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_plan_gives_the_same_bytes(target: str) -> None:
    plan = dict.fromkeys(LLAMA, formats_of(target)[0])
    assert export(plan, target) == export(dict(plan), target)


@pytest.mark.parametrize("target", TARGETS)
def test_names_of_ones_own_are_written_and_read(target: str) -> None:
    some = formats_of(target)[0]
    names = {"first": "node.0.q", "second": "node.0.k"}
    done = export({"first": some, "second": some}, target, names=names)
    text = "".join(done.files.values())
    assert "first" not in text
    assert read(target, done.files, layers=["first", "second"], names=names).assignment == {
        "first": some,
        "second": some,
    }
    if target in SPELLED_OUT:
        assert set(read(target, done.files, names=names).assignment) == {"first", "second"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_mask_says_what_it_holds(target: str) -> None:
    mask = EXPORTS[target].mask
    for name in formats_of(target):
        if name not in EXPORTS[target].formats and name not in {"fp16", "bf16", "fp32"}:
            assert name in mask.named or mask.has(parse_format(name))
            assert name.partition("-")[0] in mask.describe()
    sizes = {
        size for side in (mask.symmetric, mask.asymmetric) for found in side.values() for size in found or ()
    }
    assert all(str(size) in mask.describe() for size in sizes - {ROW})


def test_a_finer_group_is_taken_before_a_coarser_one() -> None:
    losses = {
        plan: export({"a": plan, "b": "int8"}, "mlx").losses[0].instead for plan in ("int4-g96", "int4-g16")
    }
    assert losses == {"int4-g96": "uint4-g64", "int4-g16": "uint4-g32"}


def test_a_loss_is_an_error_where_that_is_asked_for() -> None:
    plan = {"up": "int4-g64", "down": "int3"}
    assert [str(loss) for loss in export(plan, "olive").losses] == [
        "down: int3 becomes fp16: it has int2, int4, int8; uint2, uint4, uint8; the layer is left as it is"
    ]
    with pytest.raises(InvalidInputError, match="/assignment/down: down: int3 becomes fp16") as caught:
        export(plan, "olive", strict=True)
    assert len(caught.value.faults) == 1
    assert export({"up": "int4-g64"}, "olive", strict=True).losses == ()


def test_floats_beside_the_checkpoints_own_are_lost() -> None:
    plan = {"a": "int4", "b": "bf16", "c": "bf16", "d": "fp32"}
    (loss,) = export(plan, "torchao").losses
    assert (loss.layer, loss.instead) == ("d", "bf16")
    assert "own precision, taken to be bf16" in loss.reason


def test_an_allocation_is_exported() -> None:
    allocation = solve(tiny(), budgets={"weight_bytes": "1 MiB"})
    assert read("torchao", export(allocation, "torchao").files).assignment == allocation.assignment


def test_an_allocation_without_a_plan_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="nothing to export: the allocation is infeasible"):
        export(solve(tiny(), budgets={"weight_bytes": 1}), "torchao")


def test_a_plan_of_floats_only_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no layer of the plan can be expressed; the target has int8"):
        export({"up": "fp16"}, "quanto")


def test_unknown_formats_are_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="/assignment/up: unknown format 'q9'") as caught:
        export({"up": "q9", "down": "int4", "out": "?"}, "torchao")
    assert [fault.pointer for fault in caught.value.faults] == ["/assignment/up", "/assignment/out"]


def test_two_layers_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="/names: several layers are named 'x' in the target"):
        export({"a": "int8", "b": "int8"}, "quanto", names={"a": "x", "b": "x"})


def test_files_are_written_and_found_again(tmp_path: Path) -> None:
    plan = {"up": "int4-g64", "down": "int8"}
    for target in EXPORTS:
        if target == "llama.cpp":
            continue
        paths = write(export(plan, target), tmp_path / target)
        assert all(path.exists() for path in paths)
        assert [path.name for path in (tmp_path / target).iterdir()] == [path.name for path in paths]
        assert read_files(target, tmp_path / target) == read_files(target, paths[0])


def test_files_that_exist_are_only_replaced_on_request(tmp_path: Path) -> None:
    first, second = export({"up": "int8"}, "quanto"), export({"up": "uint4-g128"}, "quanto")
    (path,) = write(first, tmp_path)
    with pytest.raises(
        InvalidInputError, match=r"quantization_map.json' exists; choose another folder or use force"
    ):
        write(second, tmp_path)
    assert path.read_text() == first.files[path.name]
    write(second, tmp_path, force=True)
    assert path.read_text() == second.files[path.name]


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "quantization_map.json").mkdir()
    with pytest.raises(InvalidInputError, match="is a folder"):
        write(export({"up": "int8"}, "quanto"), tmp_path, force=True)


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    lone = Export("quanto", {"a.json": "\ud800"}, (), "")
    with pytest.raises(UnicodeEncodeError):
        write(lone, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot read a torchao configuration at .*missing.json"):
        read_files("torchao", tmp_path / "missing.json")
    (tmp_path / "latin.json").write_bytes(b"\xff")
    with pytest.raises(InvalidInputError, match="cannot read a torchao configuration"):
        read_files("torchao", tmp_path / "latin.json")


def test_a_file_with_patterns_needs_the_model() -> None:
    files = export({"up": "int4", "down": "int8"}, "gptqmodel").files
    with pytest.raises(
        InvalidInputError, match=r"/layers: the file names layers by pattern \('all others: int4'\)"
    ):
        read("gptqmodel", files)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '"text"', "null", '{"a": 3}', "[3]", "a: [", "x y=q4_0 z"]
)
def test_files_that_are_something_else_are_refused(target: str, content: str) -> None:
    name = next(iter(export({"blk.0.attn_q": formats_of(target)[0]}, target).files))
    if target in {"auto-round", "litert"} and content == "[]":
        pytest.skip("an empty list is a recipe of nothing")
    if target == "llama.cpp" and content == "":
        assert read(target, {name: content}).formats == {}
        return
    with pytest.raises(InvalidInputError, match=r"expected|unknown"):
        read(target, {name: content}, layers=["a"])


@pytest.mark.parametrize("target", TARGETS)
def test_files_of_another_kind_are_refused(target: str) -> None:
    with pytest.raises(InvalidInputError, match=r"expected a \.(json|yaml|txt) file, got weights.bin"):
        read(target, {"weights.bin": ""})
    with pytest.raises(InvalidInputError, match=r"expected a \.(json|yaml|txt) file, got nothing"):
        read(target, {})


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
@pytest.mark.thorough
def test_damaged_files_are_refused_with_a_pointer_or_read(target: str, data: st.DataObject) -> None:
    """Any value of a valid file replaced by something else never ends in another kind of error."""
    (name, text), *_ = export(dict.fromkeys(LLAMA[:3], formats_of(target)[0]), target).files.items()
    if name.endswith(".txt"):
        pytest.skip("lines have their own test")
    document = yaml.safe_load(text)  # JSON is YAML
    path = data.draw(st.sampled_from(list(_paths(document))))
    _put(document, path, data.draw(st.sampled_from([None, 3, -7, 2.5, "text", [], {}, [3], {"a": 1}, True])))
    try:
        read(
            target,
            {name: json.dumps(document) if name.endswith(".json") else yaml.safe_dump(document)},
            layers=LLAMA,
        )
    except InvalidInputError as error:
        assert error.faults  # noqa: PT017 - a valid file is fine too


def _paths(document: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    below = [path for key, value in items for path in _paths(value, (*at, key))]
    return [*([at] if at else []), *below]


def _put(document: object, path: tuple[object, ...], value: object) -> None:
    for key in path[:-1]:
        document = document[key]  # type: ignore[index]
    document[path[-1]] = value  # type: ignore[index]


def test_the_page_says_what_every_target_can() -> None:
    page = (Path(__file__).parents[3] / "docs" / "exports.md").read_text("utf-8")
    page = page.partition("## Imports")[0]
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for target in TARGETS:
        (name,) = export({"blk.0.attn_q": formats_of(target)[0]}, target).files
        assert f"| `{name}` | {EXPORTS[target].mask.describe()} |" in rows[target]


def test_the_python_of_the_page_runs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "exports.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    exec(block, {})


def test_inputs_that_are_rounded_as_they_come_are_a_loss() -> None:
    done = export({"up": "int8-dynamic", "down": "int4-g32"}, "modelopt")
    (loss,) = done.losses
    assert (loss.layer, loss.wanted, loss.instead) == ("up", "int8-dynamic", "int8")
    assert "says nothing of inputs that are rounded as they come" in loss.reason


def test_small_floats_are_left_alone_with_a_loss_where_a_target_lacks_them() -> None:
    plan = {"model.layers.0.mlp.up_proj": "mxfp4", "model.layers.0.mlp.down_proj": "int4-g32"}
    assert export(plan, "llama.cpp").losses == ()
    assert "up_proj" in export(plan, "olive").losses[0].layer
