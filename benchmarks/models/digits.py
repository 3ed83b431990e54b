"""scikit-learn's handwritten digits: 1,797 images of 8 × 8 pixels, and how classifiers are trained on them.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.models.cache import train_once
from benchmarks.models.trained import Trained

#: (B, 1, 8, 8) images from 0 to 1, and (B,) labels.
Labelled: TypeAlias = tuple[Tensor, Tensor]
_TRAINING = 1280
_CALIBRATION = 512
_PER_BATCH = 128


def train_on_digits(name: str, model: nn.Module, *, epochs: int, learning_rate: float) -> Trained:
    """Train a classifier, once.

    Args:
        name: Name of the model.
        model: (B, 1, 8, 8) images → (B, 10) logits; initialised.
        epochs: How often it sees every training image.
        learning_rate: The highest of a one-cycle schedule.

    Returns:
        The trained model; 512 of its training images are the calibration batches, the 517 held-out ones are one batch.
    """
    training, held_out = split_digits()
    settings = {"epochs": epochs, "learning_rate": learning_rate, "per_batch": 64, "seed": 0}
    train_once(name, model, partial(_fit, images=training[0], labels=training[1], **settings))

    chunks = [part[:_CALIBRATION].split(_PER_BATCH) for part in training]
    return Trained(name, model, tuple(zip(*chunks, strict=True)), (held_out,), cross_entropy, logits)


def logits(model: nn.Module, batch: Labelled) -> Tensor:
    """What a classifier says about a batch.

    Args:
        batch: Images and labels.

    Returns:
        (B, 10) logits.
    """
    said: Tensor = model(batch[0])
    return said


def cross_entropy(model: nn.Module, batch: Labelled) -> Tensor:
    """The loss that digits are trained with.

    Args:
        model: The classifier.
        batch: Images and labels.

    Returns:
        (B,) nats.
    """
    return nn.functional.cross_entropy(logits(model, batch), batch[1], reduction="none")


def split_digits() -> tuple[Labelled, Labelled]:
    """Return the digits, shuffled and split, always alike: 1,280 for training, and the other 517."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0)).numpy()
    images = torch.tensor(data.images[order], dtype=torch.float32)[:, None] / 16  # (N, 1, 8, 8)
    labels = torch.tensor(data.target[order])
    return (images[:_TRAINING], labels[:_TRAINING]), (images[_TRAINING:], labels[_TRAINING:])


def accuracy(trained: Trained) -> float:
    """Return the share of held-out samples that a classifier gets right, from 0 to 1."""
    with torch.inference_mode():
        right = [trained.logits(trained.model, batch).argmax(1) == batch[1] for batch in trained.held_out]
    return torch.cat(right).double().mean().item()


def _fit(
    model: nn.Module,
    *,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    learning_rate: float,
    per_batch: int,
    seed: int,
) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    steps = epochs * -(-len(labels) // per_batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(per_batch):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.zero_grad()
