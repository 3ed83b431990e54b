"""The classifiers of digits: accurate, reproducible, and with the layers that benchmarks count on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.models import digits_vit
from benchmarks.models.cache import seeded
from benchmarks.models.digits import accuracy, split_digits, train_on_digits
from benchmarks.models.trained import Trained
from sensitivity import discover
from sensitivity.models.blocks import find_blocks


@pytest.fixture(scope="module")
def vit() -> Trained:
    return digits_vit.load()


def test_digits_are_split_into_different_images() -> None:
    (training, labels), (held_out, held_out_labels) = split_digits()
    assert training.shape == (1280, 1, 8, 8)
    assert held_out.shape == (517, 1, 8, 8)
    assert len(labels) == 1280
    assert len(held_out_labels) == 517
    assert training.min() == 0
    assert training.max() == 1
    known = {image.numpy().tobytes() for image in training}
    assert not any(image.numpy().tobytes() in known for image in held_out)
    assert set(held_out_labels.tolist()) == set(range(10))


def test_the_network_has_six_layers_and_gets_98_percent_right(cnn: Trained) -> None:
    assert len(discover(cnn.model)) == 6
    assert accuracy(cnn) >= 0.975


def test_the_transformer_has_blocks_and_gets_97_percent_right(vit: Trained) -> None:
    names = [layer.name for layer in discover(vit.model)]
    assert len(names) == 26
    assert len(find_blocks(vit.model)) == 4
    assert accuracy(vit) >= 0.965


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_losses_and_logits_are_those_of_the_model(name: str, request: pytest.FixtureRequest) -> None:
    trained: Trained = request.getfixturevalue(name)
    assert not trained.model.training
    assert sum(len(labels) for _, labels in trained.calibration) == 512
    images, labels = trained.held_out[0]
    with torch.no_grad():
        said = trained.logits(trained.model, (images, labels))
        losses = trained.loss(trained.model, (images, labels))
    assert said.shape == (517, 10)
    by_hand = -said.double().softmax(1)[torch.arange(517), labels].log()
    torch.testing.assert_close(losses.double(), by_hand, rtol=1e-3, atol=1e-5)


def test_training_gives_the_same_bits_at_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(threads: int) -> list[bytes]:
        monkeypatch.setenv("BITALLOC_CACHE", str(tmp_path / str(threads)))
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with seeded(0):
                model = torch.nn.Sequential(
                    torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10)
                )
            train_on_digits("net", model, epochs=2, learning_rate=1e-2)
        finally:
            torch.set_num_threads(before)
        return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]

    assert weights(1) == weights(2)
