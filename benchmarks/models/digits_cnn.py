"""A convolutional network of six layers, 25 thousand weights: small enough to measure every plan there is."""

from __future__ import annotations

from torch import nn

from benchmarks.models.cache import seeded
from benchmarks.models.digits import train_on_digits
from benchmarks.models.trained import Trained


def load() -> Trained:
    """Train the network in seconds, or read it from the cache.

    Returns:
        The network; its children run one after the other.
    """
    with seeded(0):
        model = nn.Sequential(
            *_convolution(1, 16),
            *_convolution(16, 16),
            nn.MaxPool2d(2),
            *_convolution(16, 32),
            *_convolution(32, 32),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )
    return train_on_digits("digits_cnn", model, epochs=12, learning_rate=5e-3)


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()
