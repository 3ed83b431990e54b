"""A GGUF file that talks: its vocabulary against the tokenizer's own package, read by llama.cpp itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from allocator import InvalidInputError
from quantize import apply
from quantize.backends.gguf.vocabulary import vocabulary_of
from tests.quantize.ggml.llamacpp import chat_template, logits, tokenized
from tests.quantize.ggml.marks import NEEDS_GGML

TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
SPECIAL = ["<|begin|>", "<|im_end|>", "<unk>"]
TEMPLATE = "{% for message in messages %}<|begin|>{{ message['content'] }}<|im_end|>{% endfor %}"
SIZE = 900

CORPUS = [
    line
    for path in sorted(Path(__file__).parents[4].glob("docs/*.md"))
    for line in path.read_text("utf-8").splitlines()
]
LINES = [
    *[line for line in CORPUS if line.strip()][::40],
    *(line for line in Path(__file__).read_text("utf-8").splitlines()[:40] if line),
    "  two  spaces, three   of them\tand a tab ", "It's WE'RE they'll I'd", "1234567 3.14 1e-9 ½ ²",
    "naïve façade Ærøskøbing",
    "Привет, мир! Как дела?", "你好，世界。今天天气很好", "こんにちは世界",
    "안녕하세요 세계", "مرحبا بالعالم", "नमस्ते दुनिया",
    "🙂👩‍👩‍👧🏽🇩🇪 done", "a\n\n\nb\r\nc", "x==y!=z<=w->v::u", "<|begin|>hello<|im_end|>",
    "₀₁₂ ∑∫√ ≤≥≠", "_snake_case camelCase",
]  # fmt: skip


def byte_pairs(split: Any, *, whole: bool = False, normalizer: Any = None) -> Tokenizer:
    made = Tokenizer(models.BPE(ignore_merges=whole))
    made.pre_tokenizer, made.decoder, made.normalizer = split, decoders.ByteLevel(), normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    made.add_tokens([AddedToken("<tool>", normalized=False)])
    return made


def expression(digits: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{WORDS}|{digits}{TAIL}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def llama3() -> Tokenizer:
    made = byte_pairs(expression(r"\p{N}{1,3}"), whole=True)
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", 0)]),
        ]
    )
    return made


def sentence_pieces() -> Tokenizer:
    # The merges of SentencePiece: for each token, all pairs that make it, tokens in the order of their scores.
    bytes_ = [f"<0x{index:02X}>" for index in range(256)]
    trained = byte_pairs(pre_tokenizers.Metaspace(prepend_scheme="always", split=False))
    texts = [
        text
        for text in json.loads(trained.to_str())["model"]["vocab"]
        if text not in SPECIAL and text.isascii() | ("▁" in text)
    ]
    letters = sorted({letter for text in texts for letter in text})
    order = [text for text in texts if len(text) > 1 and set(text) <= set(letters)]
    vocabulary = {
        text: index for index, text in enumerate(dict.fromkeys([*SPECIAL, *bytes_, *letters, *order]))
    }
    merges = [(text[:cut], text[cut:]) for text in order for cut in range(1, len(text))
              if text[:cut] in vocabulary and text[cut:] in vocabulary]  # fmt: skip
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    made.post_processor = processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    return made


KINDS: dict[str, tuple[str, Callable[[], Tokenizer]]] = {
    "gpt-2": ("gpt2", cache(lambda: byte_pairs(pre_tokenizers.ByteLevel(add_prefix_space=False)))),
    "smollm": ("gpt2", cache(lambda: byte_pairs(pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])))),
    "qwen2": ("gpt2", cache(lambda: byte_pairs(expression(r"\p{N}"), normalizer=normalizers.NFC()))),
    "llama-bpe": ("gpt2", cache(llama3)),
    "default": ("llama", cache(sentence_pieces)),
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("talking")
    torch.manual_seed(0)
    sizes = {"vocab_size": SIZE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, initializer_range=0.2)).save_pretrained(
        folder
    )
    return folder


def checkpoint(weights: Path, folder: Path, tokenizer: Tokenizer, **settings: object) -> Path:
    folder.mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / file).symlink_to(weights / file)
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"bos_token": "<|begin|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(roles | settings), "utf-8")
    return folder


@NEEDS_GGML
@pytest.mark.parametrize("pre", KINDS)
def test_llama_cpp_gives_the_ids_of_the_tokenizer(weights: Path, tmp_path: Path, pre: str) -> None:
    kind, build = KINDS[pre]
    tokenizer = build()
    folder = checkpoint(weights, tmp_path / "in", tokenizer)
    path = apply(folder, {"lm_head": "int8-g32"}, "gguf", path=tmp_path / "out.gguf")
    facts = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
    assert (facts["tokenizer.ggml.model"], facts["tokenizer.ggml.pre"]) == (kind, pre)
    assert len(facts["tokenizer.ggml.tokens"]) == SIZE
    lines = [line for line in LINES if kind != "llama" or "<|" not in line]
    theirs = dict(zip(lines, tokenized(path, lines), strict=True))
    ours = {line: tokenizer.encode(line).ids for line in lines}
    assert {line: ids for line, ids in theirs.items() if ids != ours[line]} == {}
    assert chat_template(path) == TEMPLATE


@NEEDS_GGML
def test_a_mixed_file_gives_the_logits_of_the_reference(weights: Path, tmp_path: Path) -> None:
    import numpy as np
    from transformers import LlamaForCausalLM

    from quantize import formats_of, restored

    model = LlamaForCausalLM.from_pretrained(weights).eval()
    tokens = list(range(5, 25))
    layer = "model.layers.0."
    plans = {
        0.06: {"lm_head": "q4_1", f"{layer}mlp.up_proj": "iq4_nl", f"{layer}mlp.down_proj": "q5_1",
               f"{layer}self_attn.q_proj": "q4_k", f"{layer}self_attn.k_proj": "q3_k",
               f"{layer}self_attn.v_proj": "q6_k", "model.embed_tokens": "nvfp4"},
        0.005: {"lm_head": "fp32"},
    }  # fmt: skip
    for allowed, plan in plans.items():
        path = apply(weights, plan, "gguf", path=tmp_path / "out.gguf", force=True)
        copied = LlamaForCausalLM.from_pretrained(weights).eval()
        for name, fmt in formats_of(plan).items():
            weight = copied.get_submodule(name).weight
            weight.data = torch.from_numpy(restored(weight.detach().numpy(), fmt))
        with torch.no_grad():
            expected = copied(torch.tensor([tokens])).logits[0].numpy()
            original = model(torch.tensor([tokens])).logits[0].numpy()
        made = logits(path, tokens, SIZE)
        assert np.linalg.norm(made - expected) <= allowed * np.linalg.norm(expected)
        if plan != {"lm_head": "fp32"}:  # what llama.cpp rounds besides is far less than what the plan does
            assert np.linalg.norm(made - original) > 2 * np.linalg.norm(made - expected)


def test_without_a_tokenizer_or_where_asked_for_there_is_no_vocabulary(weights: Path, tmp_path: Path) -> None:
    def kind(folder: Path, **options: object) -> str:
        path = apply(folder, {"lm_head": "fp16"}, "gguf", path=tmp_path / "out.gguf", force=True, **options)
        return str(gguf.GGUFReader(path).fields["tokenizer.ggml.model"].contents())

    folder = checkpoint(weights, tmp_path / "in", KINDS["gpt-2"][1]())
    assert kind(weights) == "no_vocab"
    assert kind(folder) == "gpt2"
    assert kind(folder, vocabulary=False) == "no_vocab"


@pytest.mark.parametrize("name", ["tokenizer.model", "tekken.json"])
def test_a_tokenizer_in_another_file_is_not_left_out_in_silence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    expected = rf"/model: expected the tokenizer in tokenizer.json, got {name}; .*--no-vocabulary"
    with pytest.raises(InvalidInputError, match=expected):
        vocabulary_of(tmp_path, SIZE)


def test_roles_kinds_and_templates_are_read(weights: Path, tmp_path: Path) -> None:
    folder = checkpoint(weights, tmp_path / "in", llama3())
    (folder / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    found = vocabulary_of(folder, SIZE)
    assert found is not None
    assert found.special == {"bos": 0, "eos": 1}
    assert (found.adds_bos, found.adds_eos, found.chat_template) == (True, False, "{{ messages }}")
    assert found.kinds[:3] == (3, 3, 3)
    assert found.kinds[found.tokens.index("<tool>")] == 4
    assert found.tokens[-1] == f"[PAD{SIZE - 1}]"
    assert found.kinds[-1] == 5
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": "y"}]
    other = vocabulary_of(checkpoint(weights, tmp_path / "other", llama3(), chat_template=named), SIZE)
    assert other is not None
    assert other.chat_template == "y"


ANOTHER = {"SpecialToken": {"id": "a"}}


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        change(content)
        (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")

    return edit


@pytest.mark.parametrize(
    ("kind", "edit", "message"),
    [
        ("gpt-2", changed(lambda it: it["model"].update(type="Unigram")), "a model of the kind 'Unigram', which"),
        ("gpt-2", changed(lambda it: it["pre_tokenizer"].update(add_prefix_space=True)),
         r"a pre-tokenizer of \['ByteLevel'\] with other settings"),
        ("gpt-2", changed(lambda it: it.update(normalizer={"type": "Lowercase"})), r"a normalizer of \['Lowercase'\]"),
        ("gpt-2", changed(lambda it: it["model"].update(ignore_merges=True)),
         "ignore_merges=True with the pre-tokenizer gpt-2"),
        ("gpt-2", changed(lambda it: it.update(post_processor={"type": "Other"})), "a post-processor 'Other'"),
        ("llama-bpe", changed(lambda it: it["post_processor"]["processors"][1]["single"].insert(0, ANOTHER)),
         "a template that puts several tokens around a text"),
        ("llama-bpe", lambda folder: (folder / "tokenizer_config.json").write_text('{"bos_token": "<unk>"}'),
         re.escape("a text that gets '<|begin|>' where bos is another token")),
        ("default", changed(lambda it: it.update(normalizer=None)), "another treatment of spaces"),
        ("default", changed(lambda it: it["model"]["merges"].append(it["model"]["merges"][0])),
         "merges are not those of a SentencePiece"),
        ("default", changed(lambda it: it["model"]["merges"].pop(3)), "merges are not those of a SentencePiece"),
        ("gpt-2", changed(lambda it: it["added_tokens"][0].update(id=5000)), "has a token 5000, and the model 900"),
        ("gpt-2", lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json is not JSON"),
        ("gpt-2", changed(lambda it: it["model"].pop("vocab")), r"not as the tokenizers package writes it \(KeyError"),
        ("gpt-2", changed(lambda it: it["added_tokens"][0].update(id=-1)), "IndexError: a token has the number -1"),
        ("gpt-2", changed(lambda it: it.update(added_tokens=3)), "not as the tokenizers package writes it"),
        ("gpt-2", lambda folder: (folder / "tokenizer.json").write_text("[]"), "expected an object in tokenizer.json"),
    ],
)  # fmt: skip
def test_what_llama_cpp_would_read_otherwise_is_refused(
    weights: Path, tmp_path: Path, kind: str, edit: Callable[[Path], None], message: str
) -> None:
    folder = checkpoint(weights, tmp_path / "in", KINDS[kind][1]())
    edit(folder)
    with pytest.raises(InvalidInputError, match=message):
        apply(folder, {"lm_head": "fp16"}, "gguf", path=tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    assert apply(folder, {"lm_head": "fp16"}, "gguf", path=tmp_path / "out.gguf", vocabulary=False).exists()
