"""Commands that measure or write take the model that was profiled, and no other in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from allocator import load_profile
from tests.api.conftest import Run


@pytest.fixture(scope="module")
def another_encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture with other weights."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "another"
    shutil.copytree(tiny_encoder, folder)
    torch.manual_seed(1)
    BertModel(BertConfig.from_pretrained(tiny_encoder), add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture
def planned(bitalloc: Run, tiny_encoder: Path, tmp_path: Path) -> tuple[Path, Path]:
    profile, plan = tmp_path / "profile.json", tmp_path / "plan.json"
    options = ["--count", "4", "--tables", "fisher", "--formats", "int4-g64,int8-g64"]
    done = bitalloc("profile", "--model", tiny_encoder, "--out", profile, *options)
    assert done.code == 0
    assert done.out.splitlines()[1].startswith("note: 98 % of the weights are planned; 1")
    assert bitalloc("solve", profile, "-b", "effective_bits=5", "--out", plan).code == 0
    return profile, plan


def test_another_model_is_refused_with_both_named_unless_one_insists(
    bitalloc: Run, tiny_encoder: Path, another_encoder: Path, planned: tuple[Path, Path]
) -> None:
    profile, plan = planned
    commands = {
        "verify": ("verify", plan, "--profile", profile, "-o", "fisher", "--count", "4"),
        "refine": ("refine", profile, "-b", "effective_bits=5", "--count", "4", "--max-evaluations", "1"),
        "apply": ("apply", plan),
    }
    identity = load_profile(profile).identity
    assert identity is not None
    for name, command in commands.items():
        out = ("--out", f"{name}.out")
        refused = bitalloc(*command, *out, "--model", another_encoder)
        assert (refused.code, refused.out) == (2, ""), name
        assert (
            "/model: this is another model than the one that was profiled, its weights differ: "
            in refused.err
        )
        assert f"expected {identity.text()}; got BertModel" in refused.err or name == "apply"
        assert not Path(f"{name}.out").exists()
        assert bitalloc(*command, *out, "--model", tiny_encoder).code in {0, 1}, name
        insisted = bitalloc(
            *command, "--out", f"other-{name}.out", "--model", another_encoder, "--other-model"
        )
        assert insisted.code in {0, 1}, name


def test_there_is_no_default_model(bitalloc: Run, planned: tuple[Path, Path]) -> None:
    profile, plan = planned
    for command in (
        ("profile", "--out", "again.json"),
        ("verify", plan, "--profile", profile, "-o", "fisher"),
        ("refine", profile, "-b", "effective_bits=5", "--out", "refined.json"),
        ("apply", plan),
    ):
        done = bitalloc(*command)
        assert (done.code, done.out) == (2, ""), command
        assert "--model: say which model with --model FOLDER; `all-MiniLM-L6-v2` is the encoder" in done.err


def test_a_profile_that_does_not_say_which_model_it_is_of_is_compared_by_names_and_sizes(
    bitalloc: Run, tiny_encoder: Path, planned: tuple[Path, Path]
) -> None:
    profile, plan = planned
    document = json.loads(profile.read_text())
    del document["identity"]
    profile.write_text(json.dumps(document))
    command = ("verify", plan, "--profile", profile, "-o", "fisher", "--count", "4", "--model", tiny_encoder)
    done = bitalloc(*command)
    assert done.code in {0, 1}
    assert (
        done.err
        == "note: the profile does not say which model it was made of; its weights were not compared\n"
    )
    document["layers"][0]["parameters"] += 1
    profile.write_text(json.dumps(document))
    done = bitalloc(*command)
    assert done.code == 2
    assert "the model 1953408: it is another model" in done.err
    document["layers"][0]["name"] = "backbone.elsewhere"
    profile.write_text(
        json.dumps(document).replace("backbone.embeddings.word_embeddings", "backbone.elsewhere")
    )
    plan.write_text(plan.read_text().replace("backbone.embeddings.word_embeddings", "backbone.elsewhere"))
    done = bitalloc(*command)
    assert done.code == 2
    assert "unknown layer 'backbone.elsewhere'" in done.err
