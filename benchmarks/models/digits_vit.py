"""A vision transformer of four blocks, 140 thousand weights.

Source: A. Dosovitskiy et al., "An Image Is Worth 16x16 Words", ICLR 2021; here an image is worth 16 patches of 2 × 2.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from benchmarks.models.cache import seeded
from benchmarks.models.digits import train_on_digits
from benchmarks.models.trained import Trained


class Classifier(nn.Module):
    """A ViT of transformers that gives logits and nothing else.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.vit = ViTForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: (B, 1, 8, 8).

        Returns:
            (B, 10) logits.
        """
        logits: Tensor = self.vit(images).logits
        return logits


def load() -> Trained:
    """Return the transformer, trained in seconds or read from the cache."""
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=10,
        initializer_range=0.1,  # near 1/√64; the default is made for widths of a thousand and starts slowly here
    )
    with seeded(0):
        model = Classifier(config)
    return train_on_digits("digits_vit", model, epochs=10, learning_rate=3e-3)
