"""Sony's Model Compression Toolkit on MiniLM; runs in MCT's environment.

It traces the model with ``torch.fx`` and does not take values of ``x.shape``, so the blocks of MiniLM are written anew
with constant shapes, around the same weights; they take embedded tokens, and give one vector per text. Scales are the
largest magnitude, as ours are, rather than searched. Activations are rounded to 8 bits while it measures: its platforms
know no other way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.question import Answer, Question, reply
from quantize import parse_format
from sensitivity.pretrained.text_encoder import TextEncoder, Tokenizer, load_text_encoder, minilm_folder

_TOKENS = 48
_BATCH = 8
_SAMPLES = 8
_PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}


class _Block(nn.Module):
    def __init__(self, layer: Any) -> None:  # noqa: ANN401
        super().__init__()
        for short, name in _PARTS.items():
            setattr(self, short, layer.get_submodule(name))
        self.norms = nn.ModuleList([layer.attention.output.LayerNorm, layer.output.LayerNorm])
        self.heads = layer.attention.self.num_attention_heads
        self.width = self.query.in_features

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        heads = (-1, _TOKENS, self.heads, self.width // self.heads)
        query, key, value = (
            part(x).reshape(heads).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (B, H, T, D / H)
        scores = torch.matmul(query, key.transpose(2, 3)) * (1 / math.sqrt(heads[-1])) + mask  # (B, H, T, T)
        mixed = torch.matmul(torch.softmax(scores, -1), value).transpose(1, 2)
        x = self.norms[0](self.mixed(mixed.reshape(-1, _TOKENS, self.width)) + x)
        normed: Tensor = self.norms[1](self.down(nn.functional.gelu(self.up(x))) + x)
        return normed  # (B, T, D)


class Traced(nn.Module):
    """The blocks of MiniLM in constant shapes.

    Args:
        encoder: Whose layers these are.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(map(_Block, encoder.backbone.get_submodule("encoder.layer")))  # type: ignore[arg-type]

    def forward(self, x: Tensor, mask: Tensor, share: Tensor) -> Tensor:
        """Run the blocks.

        Args:
            x: (B, T, D) embedded tokens.
            mask: (B, 1, 1, T), 0 for tokens and very negative for padding.
            share: (B, 1, T), each token's part in the mean.

        Returns:
            (B, 1, D) means.
        """
        for block in self.blocks:
            x = block(x, mask)
        return torch.matmul(share, x)


def inputs_of(encoder: TextEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tensor]:
    """Embed texts.

    Args:
        tokenizer: Its tokenizer; texts of more than 48 tokens are to be cut by it.
        texts: B texts.

    Returns:
        What :class:`Traced` takes.
    """
    batch = tokenizer(texts)
    missing = _TOKENS - batch["input_ids"].shape[1]
    ids, mask = (nn.functional.pad(batch[name], (0, missing)) for name in ("input_ids", "attention_mask"))
    with torch.no_grad():
        embedded = encoder.backbone.get_submodule("embeddings")(input_ids=ids)
    kept = mask.float()
    return [embedded, ((1 - kept) * -1e4)[:, None, None, :], (kept / kept.sum(1, keepdim=True))[:, None, :]]


def plan_of(bits: Mapping[str, int], formats: Sequence[str]) -> dict[str, str]:
    """Read a plan from the bits of traced layers.

    Args:
        bits: Name of a traced layer → bits of its weight.
        formats: The formats that were asked for, of different bits.

    Returns:
        Layer → format, named as in our encoder.

    Example:
        >>> plan_of({"blocks_0_mixed": 4}, ["int4", "int8"])
        {'encoder.layer.0.attention.output.dense': 'int4'}
    """
    names = {parse_format(name).bits: name for name in formats}
    plan = {}
    for traced, width in bits.items():
        _, index, short = traced.split("_")
        plan[f"encoder.layer.{index}.{_PARTS[short]}"] = names[width]
    return plan


def answer(question: Question) -> Answer:
    """Ask MCT.

    Args:
        question: Of all formats that its platform has, without groups; budgets are bits of codes per weight.

    Returns:
        Its plans; it does not tell its scores.
    """
    _declare_operators()
    import model_compression_toolkit as mct

    encoder, tokenizer = load_text_encoder(minilm_folder(), max_tokens=_TOKENS)
    texts = [text for pair in question.pairs for text in pair]
    data = partial(_batches, encoder, tokenizer, texts)
    method = mct.core.QuantizationErrorMethod.NOCLIPPING
    settings = mct.core.CoreConfig(
        quantization_config=mct.core.QuantizationConfig(
            activation_error_method=method, weights_error_method=method, weights_bias_correction=False
        ),
        mixed_precision_config=mct.core.MixedPrecisionQuantizationConfig(num_of_images=_SAMPLES),
    )
    plans = []
    for bits in question.asked:
        model = Traced(encoder).eval()
        weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
        quantized, _ = mct.ptq.pytorch_post_training_quantization(
            model,
            data,
            target_resource_utilization=mct.core.ResourceUtilization(weights_memory=weights * bits / 8),
            core_config=settings,
        )
        found = {
            name: holder.weights_quantizers["weight"].num_bits
            for name, holder in quantized.named_modules()
            if "weight" in getattr(holder, "weights_quantizers", {})
        }
        plans.append(plan_of(found, question.formats))
    return Answer({"mixed precision": plans})


def _batches(encoder: TextEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[Tensor]]:
    for start in range(0, len(texts), _BATCH):
        yield inputs_of(encoder, tokenizer, texts[start : start + _BATCH])


def _declare_operators() -> None:
    """torchvision, which MCT imports, is built for another torch: without these its import fails."""
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    reply("model-compression-toolkit", answer)
