"""Relevance of a small convolutional network according to zennit; run in an environment of its own.

``python zennit_relevance.py IN OUT EPSILON``: IN holds the state and the images, OUT gets the relevance at the images
and at the outputs of the layers.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn


class Sum(nn.Module):
    """Adds along the last dimension, as a module so that zennit can give it a rule."""

    def forward(self, summands: Tensor) -> Tensor:
        return summands.sum(-1)


class Network(nn.Module):
    """Convolutions with and without batch normalisation, a shortcut, both kinds of pooling, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.inner, self.inner_act = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.sum, self.maximum = Sum(), nn.MaxPool2d(2)
        self.last, self.last_act, self.mean = nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AvgPool2d(2)
        self.flat, self.head = nn.Flatten(), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.act(self.norm(self.stem(images)))
        hidden = self.maximum(self.sum(torch.stack([self.inner_act(self.inner(hidden)), hidden], -1)))
        scores: Tensor = self.head(self.flat(self.mean(self.last_act(self.last(hidden)))))
        return scores


def main(source: str, target: str, epsilon: float) -> None:
    """Compute and write the relevances."""
    # torchvision's operators were built for another torch; it asks for this one when it is imported.
    operators = torch.library.Library("torchvision", "DEF")
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon, Norm, Pass

    given = torch.load(source)
    network = Network().double().eval()
    network.load_state_dict(given["state"])
    kinds = [
        ((nn.Conv2d, nn.Linear), Epsilon(epsilon)),
        ((Sum, nn.AvgPool2d), Norm(epsilon)),
        ((nn.ReLU,), Pass()),
    ]
    images = given["images"].requires_grad_()
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        output.retain_grad()
        seen[name] = output

    # After the modules whose rule passes relevance on as it is, so that what is kept is not an input of a rule.
    for name in ("last_act", "inner_act", "act"):
        getattr(network, name).register_forward_hook(lambda *call, name=name: keep(name, call[2]))
    with LayerMapComposite(kinds, canonizers=[SequentialMergeBatchNorm()]).context(network) as modified:
        scores = modified(images)
        start = torch.zeros_like(scores)
        start[:, 0] = scores[:, 0].detach()
        scores.backward(start)
    found = {"images": images.grad, **{name: output.grad for name, output in seen.items()}}
    torch.save(found, target)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
