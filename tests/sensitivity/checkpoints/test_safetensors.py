"""Checkpoints are read as safetensors reads them; what is damaged is refused by file, offset and tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator import InvalidInputError
from sensitivity.checkpoints.llama_blocks import open_llama
from sensitivity.checkpoints.safetensors import open_checkpoint, require_tensors
from sensitivity.checkpoints.streaming import profile_checkpoint
from tests.sensitivity.llamas import token_batches, write_llama

TENSORS = {
    "a": torch.arange(24, dtype=torch.float16).reshape(6, 4),
    "b": torch.linspace(-1, 1, 12, dtype=torch.bfloat16).reshape(3, 2, 2),
    "c": torch.arange(5, dtype=torch.float64),
    "d": torch.tensor([[0.1]]),
}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards and an index."""
    names = {"one.safetensors": ("a", "b"), "two.safetensors": ("c", "d")}
    for file, keys in names.items():
        save_file({key: TENSORS[key] for key in keys}, tmp_path / file, metadata={"format": "pt"})
    placed = {key: file for file, keys in names.items() for key in keys}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_tensors_are_what_was_stored(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert set(checkpoint.slots) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(checkpoint.read(name), tensor.float())
        assert torch.equal(checkpoint.read(name, len(tensor) - 1, 100), tensor[-1:].float())
        for most in (1, 7, 1000):
            assert torch.equal(torch.cat(list(checkpoint.chunks(name, most))), tensor.float())
    assert [len(part) for part in checkpoint.chunks("a", 9)] == [2, 2, 2]


def test_a_single_file_needs_no_index(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert set(open_checkpoint(tmp_path).slots) == set(TENSORS)
    require_tensors(open_checkpoint(tmp_path), {"a": (6, 4), "c": (5,)})


def test_missing_tensors_and_other_shapes_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"config.json asks for") as refusal:
        require_tensors(open_checkpoint(folder), {"a": (4, 6), "c": (5,), "x/y": (1,)})
    assert [str(fault) for fault in refusal.value.faults] == [
        "/checkpoint/a: has shape (6, 4), but config.json asks for (4, 6)",
        f"/checkpoint/x~1y: is missing from '{folder}'; config.json asks for it",
    ]


def test_tensors_that_are_no_floats_are_refused_where_the_model_needs_them(folder: Path) -> None:
    rewritten(lambda header: header["a"].update(dtype="I16"))(folder)  # type: ignore[attr-defined]
    checkpoint = open_checkpoint(folder)
    require_tensors(checkpoint, {"c": (5,)})
    with pytest.raises(InvalidInputError, match="/checkpoint/a: is stored as I16; expected one of F64, F32"):
        require_tensors(checkpoint, {"a": (6, 4)})


def rewritten(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Change the header of the first shard."""

    def damage(folder: Path) -> None:
        file = folder / "one.safetensors"
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        text = json.dumps(change(header) or header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return damage


def cut(size: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / "one.safetensors"
        file.write_bytes(file.read_bytes()[:size])

    return damage


def indexed(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / INDEX).write_text(text) and None


def placed(**changes: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"] |= changes
        (folder / INDEX).write_text(json.dumps(index))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            cut(5),
            r"one.safetensors': is no safetensors file, or is cut short: its header ends at byte \d+, the file at 5$",
        ),
        (
            cut(30),
            r"one.safetensors': is no safetensors file, or is cut short: its header ends at byte \d+, the file at 30$",
        ),
        (
            cut(-1),
            r"one.safetensors': is cut short: '[ab]' ends at byte (\d+), the file at \d+; copy it again$",
        ),
        (
            lambda folder: (folder / "one.safetensors").unlink(),
            r"names the shard 'one.safetensors', which is missing",
        ),
        (
            placed(e="one.safetensors"),
            r"one.safetensors': 'e' is not in it, but model.safetensors.index.json says so",
        ),
        (placed(e="../one.safetensors"), r"names '../one.safetensors', which is not a file of the folder"),
        (indexed("{"), r"index.json': expected JSON with a weight_map from tensor to file: "),
        (indexed("{}"), r"index.json': expected JSON with a weight_map .*'weight_map'"),
        (indexed('{"weight_map": [1]}'), r"index.json': expected JSON .*weight_map is a list"),
        (rewritten(lambda _: [1]), r"one.safetensors': .*the header at byte 8 is not a JSON object"),
        (
            rewritten(lambda header: header["a"].update(dtype="I64")),  # type: ignore[attr-defined]
            r"'a' at byte \d+ takes 48 bytes; I64 \(6, 4\) takes 192",
        ),
        (
            rewritten(lambda header: header["a"].pop("shape") and None),  # type: ignore[attr-defined]
            r"the header at byte 8 does not describe 'a': KeyError\('shape'\)",
        ),
        (
            rewritten(lambda header: header["a"].update(shape=[6, 5])),  # type: ignore[attr-defined]
            r"'a' at byte \d+ takes 48 bytes; F16 \(6, 5\) takes 60",
        ),
    ],
)
def test_damage_is_refused_and_nothing_is_written(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    before = content(folder)
    with pytest.raises(InvalidInputError, match=rf"^/checkpoint: .*{message}"):
        open_checkpoint(folder)
    assert content(folder) == before


def test_a_header_that_is_not_json_is_refused(folder: Path) -> None:
    file = folder / "one.safetensors"
    data = bytearray(file.read_bytes())
    data[8] = ord("!")
    file.write_bytes(data)
    with pytest.raises(InvalidInputError, match=r"one.safetensors': .*the header at byte 8 is not JSON"):
        open_checkpoint(folder)


def test_the_offset_in_a_refusal_is_where_the_tensor_should_end(folder: Path) -> None:
    file = folder / "one.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InvalidInputError, match=f"ends at byte {size}, the file at {size - 3};"):
        open_checkpoint(folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"^/checkpoint: expected a folder with model.safetensors or "
    ):
        open_checkpoint(tmp_path)


# A Llama, whole and damaged


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "llama")


def test_a_cut_shard_is_refused_before_any_work(llama: Path) -> None:
    file = sorted(llama.glob("*.safetensors"))[1]
    file.write_bytes(file.read_bytes()[:-100])
    before = content(llama)
    with pytest.raises(InvalidInputError, match=rf"^/checkpoint: '{file}': is cut short: 'model\."):
        profile_checkpoint(llama, token_batches(), ["int4"])
    assert content(llama) == before


def test_a_tensor_that_the_model_needs_is_asked_for(llama: Path) -> None:
    index = json.loads((llama / INDEX).read_text())
    del index["weight_map"]["model.layers.2.mlp.up_proj.weight"]
    (llama / INDEX).write_text(json.dumps(index))
    with pytest.raises(
        InvalidInputError, match=r"^/checkpoint/model.layers.2.mlp.up_proj.weight: is missing from "
    ):
        open_llama(llama)


def test_other_architectures_and_broken_configurations_are_refused(llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(
        InvalidInputError, match=r"^/checkpoint: unknown architecture to stream 'gpt2'; .*'llama'"
    ):
        open_llama(llama)
    (llama / "config.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"^/checkpoint: '.*config.json' cannot be read: "):
        open_llama(llama)
    (llama / "config.json").unlink()
    with pytest.raises(InvalidInputError, match=r"^/checkpoint: '.*config.json' cannot be read: "):
        open_llama(llama)


def test_a_written_llama_is_read_as_safetensors_reads_it(llama: Path) -> None:
    checkpoint = open_checkpoint(llama)
    for file in llama.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert torch.equal(checkpoint.read(name), tensor.float())
