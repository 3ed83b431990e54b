"""Tables of a streamed checkpoint against the definition on the loaded model, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from allocator import InvalidInputError, Profile
from quantize import parse_format, round_trip
from sensitivity import profile_model
from sensitivity.checkpoints.safetensors import open_checkpoint
from sensitivity.checkpoints.streaming import TABLES, profile_checkpoint
from sensitivity.models.layers import discover
from sensitivity.study.calibration import digest
from tests.sensitivity.llamas import token_batches, write_llama

FORMATS = ("int2-g8", "uint3", "int8-g64", "fp16")


@pytest.fixture(scope="module", params=["untied", "tied", "one file"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama") / request.param.replace(" ", "-")
    tied = request.param == "tied"
    write_llama(path, shard="1GB" if request.param == "one file" else "8KB", tie_word_embeddings=tied)
    assert (len(list(path.glob("*.safetensors"))) == 1) == (request.param == "one file")
    return path


def loaded(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def inputs_of(model: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """Everything that went into each weight, one row per token; tokens as one-hot rows."""
    found: dict[str, list[Tensor]] = {}
    handles = []
    layers = discover(model)
    for layer in layers:
        for module in layer.modules:

            def keep(
                module: nn.Module, inputs: tuple[Tensor, ...], _: object, name: str = layer.name
            ) -> None:
                if isinstance(module, nn.Embedding):
                    # An embedding is one-hot rows times the weight: its X acts on the other side of W than a Linear's.
                    rows = nn.functional.one_hot(inputs[0].flatten(), module.num_embeddings)
                    found.setdefault(f"{name} lookups", []).append(rows.double())
                else:
                    found.setdefault(name, []).append(inputs[0].flatten(0, -2).double())

            handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(rows) for name, rows in found.items()}


def twin(folder: Path, batches: list[Tensor]) -> dict[str, np.ndarray]:
    model = loaded(folder)
    inputs = inputs_of(model, batches)
    tokens = sum(batch.numel() for batch in batches)
    tables: dict[str, list[list[float]]] = {name: [] for name in TABLES}
    for layer in discover(model):
        weight = layer.weight.detach()
        wide = weight.double()
        share = float(((wide - wide.mean()) / wide.std(correction=0) > 1).double().mean())
        rows: dict[str, list[float]] = {name: [] for name in TABLES}
        for name in FORMATS:
            error = torch.from_numpy(round_trip(weight.numpy(), parse_format(name))).double() - wide
            squared = float(error.square().sum())
            rows["rounding_error"].append(squared)
            rows["zd"].append((1 - share) * squared / float(wide.square().sum()))
            change = 0.0
            if layer.name in inputs:
                change += float((inputs[layer.name] @ error.T).square().sum())
            if f"{layer.name} lookups" in inputs:
                change += float((inputs[f"{layer.name} lookups"] @ error).square().sum())
            rows["output_mse"].append(change / tokens)
        for name, row in rows.items():
            tables[name].append(row)
    return {name: np.array(rows) for name, rows in tables.items()}


def test_streamed_tables_are_those_of_the_loaded_model(folder: Path) -> None:
    batches = token_batches()
    expected = twin(folder, batches)
    profile = profile_checkpoint(folder, batches, FORMATS)
    assert list(profile.costs) == list(TABLES)
    for name, tolerance in {
        "zd": 1e-6,  # errors are float32 here and float64 in the twin
        "rounding_error": 1e-6,
        "output_mse": 1e-4,  # hidden states and Gram matrices are float32, and sums of another order
    }.items():
        np.testing.assert_allclose(profile.costs[name].values, expected[name], rtol=tolerance)


def test_rows_and_bytes_are_those_of_the_loaded_model(folder: Path) -> None:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        logits: Tensor = model(batch).logits
        return logits.mean((1, 2))

    options = {"exclude": ["*.down_proj"], "checkpoint": folder}
    plain = profile_model(loaded(folder), token_batches(), loss, FORMATS, [], **options)
    profile = profile_checkpoint(folder, token_batches(), FORMATS, exclude=["*.down_proj"])
    # Streamed blocks are never traced as one model, so their work is not counted.
    assert profile.layers == tuple(layer.model_copy(update={"macs": None}) for layer in plain.layers)
    assert profile.formats == plain.formats
    assert profile.resources == plain.resources
    assert profile.outside == plain.outside
    assert {item.reason for item in profile.outside or ()} == {
        "norm",
        "left out of the rows that were asked for",
    }
    assert profile.identity == plain.identity
    assert profile.model == folder.name
    assert profile.provenance.data_sha256 == digest(token_batches())


def same(one: Profile, other: Profile) -> bool:
    return one.model_dump_json() == other.model_dump_json()


def test_hidden_states_on_disk_give_the_same_bits_and_are_gone_afterwards(tmp_path: Path) -> None:
    write_llama(tmp_path / "llama")
    spill = tmp_path / "new" / "spill"
    seen: list[int] = []

    def look(*_: object) -> None:
        seen.append(len(list(spill.rglob("*.npy"))))

    spilled = profile_checkpoint(tmp_path / "llama", token_batches(), FORMATS, spill=spill, progress=look)
    assert same(spilled, profile_checkpoint(tmp_path / "llama", token_batches(), FORMATS))
    assert seen == [3, 3, 3, 3]
    assert list(spill.iterdir()) == []


def test_slices_of_any_size_give_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_llama(tmp_path / "llama", tie_word_embeddings=True)
    whole = profile_checkpoint(tmp_path / "llama", token_batches(), FORMATS)
    monkeypatch.setattr("sensitivity.checkpoints.streaming._CHUNK", 100)  # 6 rows of 16
    monkeypatch.setattr("sensitivity.checkpoints.llama_blocks._CHUNK", 1)
    sliced = profile_checkpoint(tmp_path / "llama", token_batches(), FORMATS)
    for name in TABLES:  # sums of parts: the last bits depend on where a weight is cut
        np.testing.assert_allclose(sliced.costs[name].values, whole.costs[name].values, rtol=1e-5)


def test_tables_without_data_need_no_batches_and_run_nothing(tmp_path: Path) -> None:
    write_llama(tmp_path / "llama")
    told: list[tuple[str, int, int]] = []
    free = profile_checkpoint(
        tmp_path / "llama", [], FORMATS, ["zd", "rounding_error"], progress=lambda *step: told.append(step)
    )
    full = profile_checkpoint(tmp_path / "llama", token_batches(), FORMATS)
    assert list(free.costs) == ["zd", "rounding_error"]
    assert all(free.costs[name] == full.costs[name] for name in free.costs)
    assert told == [("stream", done, 4) for done in (1, 2, 3, 4)]


# Refusals


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama") / "tiny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": []}, r"^/batches: expected at least one calibration batch, got none"),
        (
            {"batches": [torch.ones(2, 3)]},
            r"^/batches/0: expected token ids, an int64 tensor of shape \(B, T\)",
        ),
        ({"batches": [torch.ones(3, dtype=torch.int64)]}, r"^/batches/0: expected token ids"),
        (
            {"batches": [*token_batches(), torch.tensor([[96]])]},
            r"^/batches/3: expected ids from 0 to 95, got 96",
        ),
        ({"batches": [torch.tensor([[-1, 5]])]}, r"^/batches/0: expected ids from 0 to 95, got -1 to 5"),
        ({"tables": ["zdd"]}, r"^/tables: unknown table 'zdd'; did you mean 'zd'"),
        ({"formats": ["int9"]}, r"^/formats: unknown format 'int9'"),
        ({"formats": []}, r"^/formats: expected distinct formats, got \[\]"),
        ({"exclude": ["*.c_attn"]}, r"^/exclude/0: .*c_attn"),
    ],
)
def test_what_cannot_be_streamed_is_refused(tiny: Path, options: dict[str, Any], message: str) -> None:
    given = {"batches": token_batches(), "formats": FORMATS, **options}
    with pytest.raises(InvalidInputError, match=message):
        profile_checkpoint(tiny, **given)


def test_a_block_that_does_not_fit_is_refused_before_anything_is_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensitivity.checkpoints.streaming.free_bytes", lambda: 10**6)
    monkeypatch.setattr("sensitivity.checkpoints.safetensors.Checkpoint.read", None)
    message = (
        r"^/batches: needs about 24\.1 MiB \(rounding 24\.0, a block 0\.0, .*, 1\.0 MiB are free; use smaller"
    )
    with pytest.raises(InvalidInputError, match=message):
        profile_checkpoint(tiny, token_batches(), FORMATS)


def test_weights_that_do_not_fit_a_format_are_refused_by_layer(tmp_path: Path) -> None:
    write_llama(tmp_path / "large", scale=1e6)
    with pytest.raises(InvalidInputError, match=r"^/layers/model.layers.0.self_attn.q_proj: weights reach"):
        profile_checkpoint(tmp_path / "large", [], ["fp16"], ["zd"])


def test_activations_that_are_not_finite_are_refused_by_layer(tmp_path: Path) -> None:
    write_llama(tmp_path / "damaged")
    slot = open_checkpoint(tmp_path / "damaged").slots["model.layers.1.input_layernorm.weight"]
    with slot.file.open("r+b") as file:
        file.seek(slot.start)
        file.write(b"\xc0\x7f")  # NaN in bfloat16
    message = r"^/batches: what goes into layer 'model.layers.1.self_attn.q_proj' is not finite"
    with pytest.raises(InvalidInputError, match=message):
        profile_checkpoint(tmp_path / "damaged", token_batches(), ["bf16"])
