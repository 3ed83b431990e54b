"""Traces of single layers with PyHessian and curvlinops, called the way their documentation shows.

Both draw one Rademacher vector for the parameters they are given, so their noise is that of separate probes of ours;
only their time has to be measured. They come with ``pip install --no-deps --group bench`` (pip 25.1 or later):
BackPACK, which curvlinops builds on, declares a torchvision whose wheel breaks transformers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sensitivity import Study
from sensitivity.curvature.gradients import requiring_grad
from sensitivity.pretrained.text_encoder import encode
from sensitivity.study.calibration import Batch


def peers() -> dict[str, Callable[[Study, int, int], tuple[float, float]]]:
    """The peers that are installed.

    Returns:
        Name → (study, layer index, probes) → processor seconds to set up, and seconds of one probe after that.
    """
    known = {
        "PyHessian, Hessian": ("pyhessian", _pyhessian),
        "curvlinops, Hessian": ("curvlinops", _curvlinops_hessian),
        "curvlinops, Gauss-Newton": ("curvlinops", _curvlinops_gauss_newton),
    }
    return {name: run for name, (module, run) in known.items() if find_spec(module) is not None}


class _Losses(nn.Module):
    """The mean loss of the study as the output of a module, for tools that call ``criterion(model(x), y)``."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.model = study.model
        self.loss_fn = study.loss_fn

    def forward(self, batch: Batch) -> Tensor:
        return self.loss_fn(self.model, batch).mean()


class _Embeddings(nn.Module):
    """The embeddings as the output of a module with one argument."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.model = study.model

    def forward(self, batch: Batch) -> Tensor:
        return encode(self.model, batch)


class _Same(nn.Module):
    """The loss of a module whose output is one already."""

    reduction = "mean"

    def forward(self, value: Tensor, _: Tensor) -> Tensor:
        return value


def _pyhessian(study: Study, index: int, probes: int) -> tuple[float, float]:
    from pyhessian import hessian

    with _only(study, index), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # backward(create_graph=True) leaves a reference cycle
        start = time.process_time()
        made = hessian(
            _Losses(study), lambda loss, _: loss, data=(study.batches[0], torch.zeros(1)), cuda=False
        )
        ready = time.process_time()
        made.trace(maxIter=probes, tol=-float("inf"))  # its own test stops at once where a trace is negative
        end = time.process_time()
        del made
    for parameter in study.model.parameters():
        parameter.grad = None
    return ready - start, (end - ready) / probes


def _curvlinops_hessian(study: Study, index: int, probes: int) -> tuple[float, float]:
    from curvlinops import HessianLinearOperator

    return _products(study, index, probes, HessianLinearOperator, _Losses(study), _Same())


def _curvlinops_gauss_newton(study: Study, index: int, probes: int) -> tuple[float, float]:
    from curvlinops import GGNLinearOperator

    return _products(study, index, probes, GGNLinearOperator, _Embeddings(study), nn.MSELoss())


def _products(
    study: Study,
    index: int,
    probes: int,
    operator: Callable[..., Any],
    model: nn.Module,
    loss: nn.Module,
) -> tuple[float, float]:
    weight = study.layers[index].weight
    batch = study.batches[0]
    rows = len(batch["input_ids"])
    with _only(study, index):
        labels = torch.zeros_like(encode(study.model, batch)).detach()
        start = time.process_time()
        made = operator(
            model, loss, [weight], [(batch, labels)], check_deterministic=False, num_data=rows,
            batch_size_fn=lambda _: rows,
        )  # fmt: skip
        ready = time.process_time()
        for probe in range(probes):
            signs = (
                torch.randint(0, 2, weight.shape, generator=torch.Generator().manual_seed(probe)) * 2.0 - 1
            )
            _ = [(part * signs).sum() for part in made @ [signs]]
        end = time.process_time()
    return ready - start, (end - ready) / probes


@contextmanager
def _only(study: Study, index: int) -> Iterator[None]:
    # Gradients for one layer only, and attention that has second derivatives.
    with requiring_grad(study.model, [study.layers[index].weight]), sdpa_kernel(SDPBackend.MATH):
        yield
