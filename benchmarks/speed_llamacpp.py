"""A Llama of 69 million random weights, decoded by llama.cpp on one thread from files of our own GGUF backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from allocator import Profile, ResourceTable, load_profile
from benchmarks.llamacpp import LlamaCpp, logits, us_per_token
from benchmarks.models.cache import cached, one_thread, seeded
from benchmarks.models.trained import kl_divergence
from benchmarks.quality_speed import Plan, Runtime
from quantize import apply
from quantize.feedback import clock_beside, middle_plan
from quantize.feedback.measurement import digest
from sensitivity import kl, profile_model
from sensitivity.pretrained.language_model import logits as torch_logits
from sensitivity.pretrained.language_model import next_token_loss

FORMATS = ("int4-g32", "int5-g32", "int8-g32", "fp16", "fp32")
_LENGTH = 64
_DECODED = 8  # tokens of one round
_ROUNDS = 4
_VOCABULARY = 1024
SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 16}


def llamacpp_llama(
    runtime: LlamaCpp, folder: Path, sizes: Mapping[str, int] = SIZES, rounds: int = _ROUNDS
) -> Runtime:
    """Write the checkpoint, and measure its tables.

    Args:
        runtime: Where llama.cpp runs.
        folder: For files: the checkpoint, and one for each plan.
        sizes: Of the model.
        rounds: Times a session decodes the tokens.

    Returns:
        The model; its loss is the KL divergence, as llama.cpp itself computes it, from what the original says.
    """
    config = LlamaConfig(
        vocab_size=_VOCABULARY, max_position_embeddings=_LENGTH, tie_word_embeddings=False, **sizes
    )
    with seeded(0):
        model = LlamaForCausalLM(config).eval()
        tokens = torch.randint(_VOCABULARY, (1, _LENGTH))
    model.save_pretrained(folder / "checkpoint")
    text: list[int] = tokens[0].tolist()

    def file_of(plan: Plan) -> Path:
        path = folder / f"{digest(plan)}.gguf"
        return path if path.exists() else apply(folder / "checkpoint", dict(plan), "gguf", path=path)

    def times_us(plans: Sequence[Plan]) -> list[float]:
        taken = us_per_token(runtime, [file_of(plan) for plan in plans], text[:_DECODED], rounds)
        return np.median(taken, axis=0).tolist()

    @cache
    def said(file: Path) -> torch.Tensor:
        return torch.from_numpy(logits(runtime, file, text, _VOCABULARY).copy())[None]  # (1, T, V)

    costs = _costs(model, tokens)
    original = dict.fromkeys((layer.name for layer in costs.layers), "fp32")

    def loss(plan: Plan) -> float:
        return float(kl_divergence(said(file_of(original)), said(file_of(plan))).mean())

    shapes = {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return Runtime(with_latency(costs, shapes, times_us), "kl", loss, times_us)


def with_latency(
    profile: Profile,
    shapes: Mapping[str, tuple[int, ...]],
    times_us: Callable[[Sequence[Plan]], Sequence[float]],
) -> Profile:
    r"""Fill a table of latencies from whole plans.

    Layers of one shape take the same time. With :math:`T(s, f)` measured where the n layers of shape s have format f
    and all others the smallest format, a layer of P weights spends
    :math:`P / \\sum P \\cdot T_0 + (T(s, f) - T_0) / n` µs; rows that are only looked up spend nothing.

    Args:
        profile: Tables without latencies; its first format is the smallest.
        shapes: Shape of every layer that multiplies.
        times_us: Times plans in turns.

    Returns:
        The profile with ``latency_us``.
    """
    names, formats = [layer.name for layer in profile.layers], list(profile.formats)
    base = dict.fromkeys(names, formats[0])
    kinds = sorted(set(shapes.values()))
    probes = [
        base | {name: fmt for name, shape in shapes.items() if shape == kind}
        for kind in kinds
        for fmt in formats[1:]
    ]
    clock = clock_beside(times_us, middle_plan(profile))
    least = clock(base)
    extra = np.reshape([clock(probe) - least for probe in probes], (len(kinds), -1))  # (K, F - 1)
    weights = sum(int(np.prod(shape)) for shape in shapes.values())
    rows = []
    for name in names:
        if name not in shapes:
            rows.append((0.0,) * len(formats))
            continue
        share = least * float(np.prod(shapes[name])) / weights
        more = extra[kinds.index(shapes[name])] / list(shapes.values()).count(shapes[name])
        rows.append((share, *(max(share + float(item), 0.0) for item in more)))
    table = ResourceTable(values=tuple(rows), unit="us")
    return profile.model_copy(update={"resources": {**profile.resources, "latency_us": table}})


def _costs(model: LlamaForCausalLM, tokens: torch.Tensor) -> Profile:
    def write(path: Path) -> None:
        with one_thread():
            found = profile_model(
                model, [tokens], next_token_loss, FORMATS, {"kl": partial(kl, logits=torch_logits)}
            )
        path.write_text(found.model_dump_json())

    ingredients = [repr(model), tokens, list(FORMATS), torch.__version__, model.lm_head.weight.detach()]
    return load_profile(cached("random_llama_profile", ".json", ingredients, write))
