"""NVIDIA ModelOpt's ``auto_quantize`` on MiniLM; runs in ModelOpt's environment.

Both of its methods: ``gradient``, (gradient × output error)² of each layer and an integer program; and ``kl_div``, the
divergence of the outputs with one layer quantized, and a threshold on the largest.

The gradient is that of the contrastive loss of the pairs, times :data:`SCALE`: ModelOpt hands raw scores to CBC, whose
tolerances are absolute, so that scores of well-trained models are lost in them. For ``kl_div``, logits are the
similarities of queries and documents, over the temperature of that loss.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.question import Answer, Question, reply
from quantize import parse_format
from sensitivity.pretrained.text_encoder import (
    encode,
    info_nce,
    load_text_encoder,
    minilm_folder,
    pair_batches,
)

#: Scores are squares: they grow by its square.
SCALE = 1e3
_TEMPERATURE = 0.05


def recipe(name: str) -> dict[str, Any]:
    """Describe a format of ours in ModelOpt's terms.

    Args:
        name: An integer format with groups.

    Returns:
        A configuration of weight-only quantization that counts scales as stored bits.

    Example:
        >>> recipe("int4-g64")["effective_bits"]
        4.25
    """
    found = parse_format(name)
    weights = {"num_bits": found.bits, "block_sizes": {-1: found.group_size}}
    return {
        "quant_cfg": [
            {"quantizer_name": "*", "enable": False},
            {"quantizer_name": "*weight_quantizer", "cfg": weights, "enable": True},
        ],
        "algorithm": "max",
        "effective_bits": found.bits + found.scale_bits / (found.group_size or 1),
    }


def plan_of(recipes: Mapping[str, float], formats: Sequence[str]) -> dict[str, str]:
    """Read ModelOpt's choice: it names formats of others by their place, but knows their bits.

    Args:
        recipes: Name of a decision → stored bits per weight of its recipe.
        formats: The formats that were asked for.

    Returns:
        Layer → format.

    Example:
        >>> plan_of({"encoder.0.quant_recipe": 4.25}, ["int4-g64", "int8-g64"])
        {'encoder.0': 'int4-g64'}
    """
    names = {recipe(name)["effective_bits"]: name for name in formats}
    return {decision.removesuffix(".quant_recipe"): names[bits] for decision, bits in recipes.items()}


def _scaled_loss(embeddings: Tensor, _: object) -> Tensor:
    return SCALE * info_nce(lambda embeddings: embeddings, {"embeddings": embeddings}).mean()


def _similarities(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    embeddings = encode(model, batch)
    return embeddings[0::2] @ embeddings[1::2].T / _TEMPERATURE  # (B, B)


def answer(question: Question) -> Answer:
    """Ask ModelOpt.

    Args:
        question: Budgets are stored bits per weight.

    Returns:
        Its plans and scores.
    """
    import modelopt.torch.quantization as mtq

    formats = [recipe(name) for name in question.formats]
    plans: dict[str, list[dict[str, str]]] = {}
    scores: dict[str, dict[str, dict[str, float]]] = {}
    steps = {"gradient": encode, "kl_div": _similarities}
    for method, step in steps.items():
        with tempfile.TemporaryDirectory() as folder:  # scores are taken once for all budgets
            for bits in question.asked:
                model, tokenizer = load_text_encoder(minilm_folder(), max_tokens=48)
                batches = pair_batches(tokenizer, question.pairs, 16)
                _, state = mtq.auto_quantize(
                    model,
                    constraints={"effective_bits": bits},
                    quantization_formats=formats,
                    module_search_spaces=[
                        {
                            "module_name_patterns": ["*"],
                            "quantization_formats": formats,
                            "allow_no_quant": False,
                        }
                    ],
                    disabled_layers=["*embeddings*"],
                    data_loader=batches,
                    forward_step=step,
                    loss_func=_scaled_loss if method == "gradient" else None,
                    num_calib_steps=len(batches),
                    num_score_steps=len(batches),
                    method=method,
                    checkpoint=str(Path(folder) / "scores.pt"),
                )
                chosen = {name: found.compression * 16 for name, found in state["best"]["recipe"].items()}
                plans.setdefault(method, []).append(plan_of(chosen, question.formats))
        scores[method] = _scores(state["candidate_stats"], question.formats)
    return Answer(plans, scores)


def _scores(stats: Mapping[str, Mapping[str, Any]], formats: Sequence[str]) -> dict[str, dict[str, float]]:
    named = partial(plan_of, formats=formats)
    found: dict[str, dict[str, float]] = {}
    for decision, stat in stats.items():
        for choice, score in zip(stat["formats"], stat["scores"], strict=True):
            ((layer, name),) = named({decision: choice.compression * 16}).items()
            found.setdefault(layer, {})[name] = float(score)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    reply("nvidia-modelopt", answer)
