"""The vocabulary of a checkpoint as llama.cpp wants it, from ``tokenizer.json``: what makes a file that talks.

Two kinds are known: byte pairs over bytes (GPT-2, Llama 3, Qwen 2 and 3, SmolLM), whose pre-tokenizer llama.cpp has by
name, and SentencePiece's byte pairs with a fallback to bytes (Llama 2, Mistral), scored by the ranks of the merges.
Anything else is refused: a tokenizer that is nearly right gives other ids, and nobody is told.

Source: llama.cpp, ``convert_hf_to_gguf.py`` and ``src/llama-vocab.cpp`` (``LLAMA_VOCAB_PRE_TYPE_*``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError
from quantize.backends.gguf.pieces import piece_scores

#: Kinds of a token in the file.
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = range(1, 7)
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
#: Expression that splits a text → llama.cpp's name for it, and whether whole words go before merges there.
_EXPRESSIONS = {
    rf"{_WORDS}|\p{{N}}{{1,3}}{_TAIL}": ("llama-bpe", True),
    rf"{_WORDS}|\p{{N}}{_TAIL}": ("qwen2", False),
}
#: Other files that a tokenizer may be in.
_OTHER_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "tekken.json", "tiktoken.model")
_HINT = "without a vocabulary it can be written with vocabulary=False (--no-vocabulary)"


@dataclass(frozen=True)
class Vocabulary:
    """What a file says of tokens.

    Attributes:
        kind: ``gpt2`` for byte pairs over bytes, ``llama`` for SentencePiece's.
        pre: Name of the pre-tokenizer; ``default`` for SentencePiece's.
        tokens: Text of each token, by its number.
        kinds: Kind of each.
        merges: Pairs in the order of their ranks; none for SentencePiece's.
        scores: Score of each token; none for byte pairs.
        special: Role (``bos``, ``eos``, ``unk``, ``pad``) → number of the token.
        adds_bos: Whether a text begins with ``bos``.
        adds_eos: Whether it ends with ``eos``.
        adds_space: Whether it begins with a space that nobody wrote.
        chat_template: Template of a conversation, in Jinja; empty for none.
    """

    kind: str
    pre: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    scores: tuple[float, ...]
    special: Mapping[str, int]
    adds_bos: bool
    adds_eos: bool
    adds_space: bool
    chat_template: str


def vocabulary_of(folder: Path, size: int) -> Vocabulary | None:
    """Read the vocabulary of a checkpoint.

    Args:
        folder: The checkpoint.
        size: Number of tokens that the model has.

    Returns:
        The vocabulary; None where the folder has no tokenizer.

    Raises:
        InvalidInputError: The tokenizer is in another file than ``tokenizer.json``, of an unknown kind, or of another
            model.
    """
    file = folder / "tokenizer.json"
    if not file.exists():
        others = [name for name in _OTHER_FILES if (folder / name).exists()]
        if others:
            made = "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes it"
            detail = f"expected the tokenizer in tokenizer.json, got {', '.join(others)}; {made}, and {_HINT}"
            raise InvalidInputError(Fault("/model", detail))
        return None
    content = _read(file)
    settings = _read(folder / "tokenizer_config.json")
    try:
        return _vocabulary(folder, content, settings, size)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        detail = f"tokenizer.json is not as the tokenizers package writes it ({type(error).__name__}: {error}); {_HINT}"
        raise InvalidInputError(Fault("/model", detail)) from error


def _vocabulary(
    folder: Path, content: Mapping[str, Any], settings: Mapping[str, Any], size: int
) -> Vocabulary:
    model = content.get("model") or {}
    if model.get("type") != "BPE" or model.get("dropout") or model.get("continuing_subword_prefix"):
        raise InvalidInputError(_unknown(f"a model of the kind {model.get('type')!r}"))
    tokens, kinds = _tokens(content, size)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges") or ()]
    first, last = _around(content.get("post_processor"))
    number = {text: index for index, text in enumerate(tokens)}
    special = {role: number[text] for role in ("bos", "eos", "unk", "pad")
               if (text := _text(settings.get(f"{role}_token"))) in number}  # fmt: skip
    if model.get("byte_fallback"):
        adds_space = _space_prefix(content)
        pairs = [tuple(pair.split(" ")) for pair in merges]
        own = [item["content"] for item in content.get("added_tokens") or ()]
        scores = piece_scores(model["vocab"], pairs, len(tokens), own)
        if scores is None:
            raise InvalidInputError(
                _unknown("byte pairs with a fallback whose merges are not those of a SentencePiece model")
            )
        pre, merges, kind = "default", [], "llama"
    else:
        pre, adds_space, scores, kind = _pre_tokenizer(content), False, (), "gpt2"
    for role, shown in (("bos", first), ("eos", last)):
        if shown is not None and special.get(role) != number.get(shown):
            raise InvalidInputError(_unknown(f"a text that gets {shown!r} where {role} is another token"))
    return Vocabulary(
        kind, pre, tokens, kinds, tuple(merges), scores, special,
        first is not None, last is not None, adds_space, _chat_template(folder, settings),
    )  # fmt: skip


def write_vocabulary(writer: Any, found: Vocabulary) -> None:  # noqa: ANN401 - a gguf.GGUFWriter
    """Write a vocabulary.

    Args:
        writer: The file.
        found: The vocabulary.
    """
    writer.add_tokenizer_model(found.kind)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(list(found.tokens))
    writer.add_token_types(list(found.kinds))
    if found.scores:
        writer.add_token_scores(list(found.scores))
    if found.merges:
        writer.add_token_merges(list(found.merges))
    add = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "unk": writer.add_unk_token_id,
           "pad": writer.add_pad_token_id}  # fmt: skip
    for role, number in found.special.items():
        add[role](number)
    writer.add_add_bos_token(found.adds_bos)
    writer.add_add_eos_token(found.adds_eos)
    writer.add_add_space_prefix(found.adds_space)
    if found.chat_template:
        writer.add_chat_template(found.chat_template)


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InvalidInputError(Fault("/model", f"{file.name} is not JSON: {error}")) from error
    if not isinstance(content, dict):
        raise InvalidInputError(Fault("/model", f"expected an object in {file.name}"))
    return content


def _unknown(what: str) -> Fault:
    known = "byte pairs as GPT-2, Llama 3, Qwen 2 and 3 and SmolLM split a text, and SentencePiece's"
    detail = f"tokenizer.json has {what}, which llama.cpp would read otherwise; known: {known}; {_HINT}"
    return Fault("/model", detail)


def _text(token: object) -> str | None:
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None


def _tokens(content: Mapping[str, Any], size: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    texts = [f"[PAD{index}]" for index in range(size)]
    kinds = [_UNUSED] * size
    model = content["model"]
    added = content.get("added_tokens") or ()
    largest = max([*model["vocab"].values(), *(item["id"] for item in added)], default=-1)
    least = min([*model["vocab"].values(), *(item["id"] for item in added)], default=0)
    if least < 0:
        raise IndexError(f"a token has the number {least}")
    if largest >= size:
        detail = f"tokenizer.json has a token {largest}, and the model {size} of them; it is another model's"
        raise InvalidInputError(Fault("/model", detail))
    for text, index in model["vocab"].items():
        texts[index], kinds[index] = text, _NORMAL
        if model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x"):
            kinds[index] = _BYTE
        elif text == model.get("unk_token") and model.get("byte_fallback"):
            kinds[index] = _UNKNOWN
    for item in added:
        texts[item["id"]] = item["content"]
        if kinds[item["id"]] != _UNKNOWN:
            kinds[item["id"]] = _CONTROL if item.get("special") else _USER
    return tuple(texts), tuple(kinds)


def _steps(part: Any) -> Sequence[Mapping[str, Any]]:  # noqa: ANN401 - JSON
    # Normalizers, pre-tokenizers and processors are one step, or a sequence of them.
    if not part:
        return ()
    if part.get("type") == "Sequence":
        inside: Sequence[Any] = next(
            (part[key] for key in ("normalizers", "pretokenizers", "processors") if key in part), []
        )
        return [step for item in inside for step in _steps(item)]
    return (part,)


def _pre_tokenizer(content: Mapping[str, Any]) -> str:
    normalizers = [step["type"] for step in _steps(content.get("normalizer"))]
    whole = bool(content["model"].get("ignore_merges"))
    match _steps(content.get("pre_tokenizer")):
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            found = "gpt-2", False
        case [{"type": "ByteLevel", "add_prefix_space": False} as only] if "use_regex" not in only:
            found = "gpt-2", False
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False} as bytes_,
        ] if bytes_.get("use_regex", True):
            found = "smollm", False
        case [
            {"type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ] if text in _EXPRESSIONS:
            found = _EXPRESSIONS[text]
        case steps:
            raise InvalidInputError(
                _unknown(f"a pre-tokenizer of {[step['type'] for step in steps]} with other settings")
            )
    # Qwen composes characters first, which llama.cpp leaves out; texts are composed but for rare ones.
    if normalizers and (normalizers != ["NFC"] or found[0] != "qwen2"):
        raise InvalidInputError(_unknown(f"a normalizer of {normalizers}"))
    if whole != found[1]:
        raise InvalidInputError(_unknown(f"ignore_merges={whole} with the pre-tokenizer {found[0]}"))
    return found[0]


def _space_prefix(content: Mapping[str, Any]) -> bool:
    space = {"String": " "}
    match [*_steps(content.get("normalizer")), *_steps(content.get("pre_tokenizer"))]:
        case [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": pattern, "content": "▁"}]:
            if pattern == space:
                return True
        case [{"type": "Replace", "pattern": pattern, "content": "▁"}]:
            if pattern == space:
                return False
        case [{"type": "Metaspace", "replacement": "▁", "split": False} as only]:
            return bool(only.get("prepend_scheme", "always") != "never")
        case _:
            pass
    raise InvalidInputError(_unknown("SentencePiece's byte pairs with another treatment of spaces"))


def _around(part: Any) -> tuple[str | None, str | None]:  # noqa: ANN401 - JSON
    first = last = None
    for step in _steps(part):
        if step["type"] == "TemplateProcessing":
            names = [item.get("SpecialToken", {}).get("id") for item in step["single"]]
            if (
                names.count(None) != 1
                or len(names) > 3
                or names.index(None) > 1
                or len(names) - names.index(None) > 2
            ):
                raise InvalidInputError(_unknown("a template that puts several tokens around a text"))
            first = names[0] if names[0] is not None else first
            last = names[-1] if names[-1] is not None else last
        elif step["type"] != "ByteLevel":
            raise InvalidInputError(_unknown(f"a post-processor {step['type']!r}"))
    return first, last


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text("utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several by name; the first named "default" is what a chat takes
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""
