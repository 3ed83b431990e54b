"""How small language models are trained, and what is measured on them."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.models.cache import train_once
from benchmarks.models.stdlib_text import Text
from benchmarks.models.trained import Trained
from sensitivity.models.language_model import logits, next_token_loss

_LENGTH = 128
_PER_BATCH = 8
_CALIBRATION = 8  # batches
_HELD_OUT = 16


def train_on_text(name: str, model: nn.Module, text: Text, *, steps: int) -> Trained:
    """Train a causal language model of transformers, once.

    Args:
        model: The model, initialised; gives ``.loss`` when it gets labels.
        text: What it is trained on.
        steps: Number of steps of 16 sequences of 128 tokens.

    Returns:
        The trained model; 8 batches of 8 training sequences for calibration, and 16 held-out ones.
    """
    fit = partial(
        _fit,
        tokens=text.training,
        steps=steps,
        per_step=16,
        length=_LENGTH,
        learning_rate=5e-3,
        matrix_learning_rate=1e-2,
        seed=0,
    )
    train_once(name, model, fit)
    calibration, held_out = (
        _sequences(tokens)[: count * _PER_BATCH].split(_PER_BATCH)
        for tokens, count in ((text.training, _CALIBRATION), (text.held_out, _HELD_OUT))
    )
    return Trained(name, model, calibration, held_out, next_token_loss, logits)


def perplexity(trained: Trained) -> float:
    """Return exp of the mean loss on held-out text: how many tokens a language model hesitates between."""
    with torch.inference_mode():
        losses = torch.cat([trained.loss(trained.model, batch) for batch in trained.held_out])
    return math.exp(losses.double().mean().item())


def _sequences(tokens: Tensor) -> Tensor:
    # From all over the text, rather than the first file.
    whole = tokens[: len(tokens) // _LENGTH * _LENGTH].reshape(-1, _LENGTH)
    return whole[torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))]


def _fit(
    model: nn.Module,
    *,
    tokens: Tensor,
    steps: int,
    per_step: int,
    length: int,
    learning_rate: float,
    matrix_learning_rate: float,
    seed: int,
) -> None:
    # Muon learns about twice as fast as AdamW on matrices, and this is what makes a model of minutes feel its bits.
    model.train()
    matrices = [module.weight for module in _linears(model)]
    known = {id(weight) for weight in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    optimizers = [
        torch.optim.Muon(matrices, lr=matrix_learning_rate, weight_decay=0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / 30, 1, 2 * (1 - step / steps))
        )
        for optimizer in optimizers
    ]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(tokens) - length, (per_step,), generator=generator)
        batch = tokens[starts[:, None] + torch.arange(length)]
        loss = model(batch, labels=batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad()


def _linears(model: nn.Module) -> list[nn.Linear]:
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and id(module.weight) not in embeddings
    ]
