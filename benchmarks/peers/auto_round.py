"""Intel auto-round's ``AutoScheme`` on MiniLM; runs in auto-round's environment.

It is made for causal language models: it calls ``backward`` on the ``loss`` that the model returns. Here that is the
embedding distance to the original model, which is not at its minimum since all layers are quantized when gradients are
taken. Texts must be as long as a sample, so those of the pairs are joined and cut.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.question import Answer, Question, reply
from quantize import parse_format
from quantize.imports import import_scores
from sensitivity.pretrained.text_encoder import cosine_distance, minilm_folder

_TOKENS = 48
#: Of a text; enough for as many tokens.
_CHARACTERS = 400
_BATCH = 8


def scheme(name: str) -> str:
    """Name auto-round's preset for a format of ours.

    Args:
        name: A symmetric integer format with groups.

    Returns:
        The preset.

    Example:
        >>> scheme("int4-g64")
        'W4A16G64'
    """
    found = parse_format(name)
    return f"W{found.bits}A16G{found.group_size}"


def plan_of(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Read a plan from auto-round's configuration of layers.

    Args:
        layers: Layer → settings.

    Returns:
        Layer → format, named as in our encoder.

    Example:
        >>> plan_of({"encoder.up": {"bits": 4, "group_size": 64, "sym": True}})
        {'encoder.up': 'int4-g64'}
    """
    return {
        layer: f"{'' if found['sym'] else 'u'}int{found['bits']}-g{found['group_size']}"
        for layer, found in layers.items()
    }


def texts_of(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Cut all texts, joined, into pieces of equal length.

    Args:
        pairs: (query, document).

    Returns:
        The pieces; what is left at the end is dropped.
    """
    text = " ".join(part for pair in pairs for part in pair)
    return [text[start : start + _CHARACTERS] for start in range(0, len(text) - _CHARACTERS + 1, _CHARACTERS)]


def answer(question: Question) -> Answer:
    """Ask auto-round.

    Args:
        question: Budgets are stored bits per weight.

    Returns:
        Its plans and scores.
    """
    texts = texts_of(question.pairs)
    with tempfile.TemporaryDirectory() as folder:
        data, kept = Path(folder) / "texts.json", Path(folder) / "scores"
        data.write_text(json.dumps([{"text": text} for text in texts]))
        kept.mkdir()
        os.environ["AR_AUTO_SCHEME_CACHE"] = str(
            kept
        )  # its own is keyed by the name of a model, not by weights
        plans = [plan_of(_layers(question.formats, bits, data, len(texts))) for bits in question.asked]
        found = import_scores("auto-round", sorted(kept.iterdir()))
    scores = {
        layer.name: {name: cost for name, cost in zip(found.formats, row, strict=True) if cost is not None}
        for layer, row in zip(found.layers, found.costs["delta_loss"].values, strict=True)
    }
    return Answer({"delta_loss": plans}, {"delta_loss": scores})


def _layers(formats: Sequence[str], bits: float, data: Path, samples: int) -> Mapping[str, Mapping[str, Any]]:
    from auto_round import AutoRound, AutoScheme
    from transformers import AutoTokenizer

    amounts = {"dataset": str(data), "nsamples": samples, "seqlen": _TOKENS, "device_map": "cpu"}
    options = ",".join(map(scheme, formats))
    wanted = AutoScheme(avg_bits=bits, options=options, batch_size=_BATCH, **amounts)
    tool = AutoRound(
        model=_model(),
        tokenizer=AutoTokenizer.from_pretrained(minilm_folder()),
        scheme=wanted,
        iters=0,
        enable_torch_compile=False,
        **amounts,
    )
    tool.post_init()  # decides; the rounding that would follow is not needed
    layers: Mapping[str, Mapping[str, Any]] = tool.layer_config
    return layers


def _model() -> nn.Module:
    from transformers import BertModel

    original = BertModel.from_pretrained(minilm_folder(), add_pooling_layer=False).eval()

    class Distance(BertModel):
        """MiniLM that returns its distance from the original as a loss."""

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: object) -> Any:  # noqa: ANN401
            found = super().forward(input_ids=input_ids, attention_mask=attention_mask)
            with torch.no_grad():
                wanted = original(input_ids=input_ids, attention_mask=attention_mask)
            vectors = [
                nn.functional.normalize(output.last_hidden_state.mean(1), dim=-1)
                for output in (wanted, found)
            ]
            found["loss"] = cosine_distance(*vectors).mean()
            return found

    return Distance.from_pretrained(minilm_folder(), add_pooling_layer=False).eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    reply("auto-round", answer)
