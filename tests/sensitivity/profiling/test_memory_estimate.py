"""What estimators hold in memory is compared with what is free before any of them begins."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from sensitivity import (
    fisher,
    gauss_newton,
    hessian_trace,
    kl,
    loss,
    lrp,
    measured,
    output_mse,
    profile_model,
)
from sensitivity.profiling.memory_estimate import NEEDS, require_room, sizes_of
from tests.sensitivity.studies import Blocks, make_study, squares, state

BATCHES = [torch.ones(2, 4), torch.ones(5, 4)]


def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made


def distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().sum(1)


EVERY: dict[str, Any] = {
    "fisher": fisher,
    "hessian_trace": hessian_trace,
    "gauss_newton trace": partial(hessian_trace, curvature="gauss_newton", outputs=outputs),
    "gauss_newton": partial(gauss_newton, outputs=outputs),
    "one by one": partial(gauss_newton, outputs=outputs, together=False),
    "kl": partial(kl, logits=outputs),
    "kl together": partial(kl, logits=outputs, together=3),
    "loss": loss,
    "distance": partial(measured, name="distance", outputs=outputs, distance=distance, meaning=""),
    "lrp": lrp,
    "output_mse": output_mse,
}


def test_sizes_of_a_chain_by_hand() -> None:
    # Of 5 samples in single precision: stem (5, 6), three blocks of a Linear and a tanh, head (5, 3), squares and sums.
    sizes = sizes_of(make_study(Blocks(), BATCHES, squares, ["int2", "int4"]))
    hidden, outputs = 5 * 6 * 4, 5 * 3 * 4
    assert sizes.graph == 7 * hidden + 2 * outputs + 5 * 4
    assert sizes.activations == 3 * hidden  # into a block, between its two modules, and out of it
    # For the head: the stem and the blocks, for 7 samples rather than 5.
    assert sizes.replayed == 4 * hidden * 7 // 5
    assert sizes.weights == 4 * (24 + 3 * 36 + 18)
    assert sizes.largest == sizes.dense == 4 * 36
    assert (sizes.formats, sizes.samples) == (2, 5)


def vectorised(model: nn.Module, batch: Tensor) -> Tensor:
    return torch.vmap(lambda row: model(row).square().sum())(batch)


def without_versions(model: nn.Module, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        return squares(model, batch)


def by_parameters(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = torch.func.functional_call(model, dict(model.named_parameters()), (batch,))
    return made.square().sum(1)


@pytest.mark.parametrize("loss_fn", [vectorised, without_versions, by_parameters])
def test_passes_are_measured_whatever_the_loss_is_made_of(loss_fn: Any) -> None:
    sizes = sizes_of(make_study(Blocks(), BATCHES, loss_fn))
    assert sizes.samples == 5
    assert sizes.graph >= 900
    assert sizes.replayed == (0 if loss_fn is vectorised else 672)


def test_an_embedding_has_no_dense_gradients() -> None:
    model = nn.Sequential(nn.Embedding(100, 4), nn.Linear(4, 2))
    sizes = sizes_of(make_study(model, [torch.zeros(3, 2, dtype=torch.int64)], squares))
    assert (sizes.largest, sizes.dense) == (4 * 400, 4 * 8)


@pytest.mark.parametrize("name", EVERY)
def test_what_does_not_fit_is_refused_before_any_table_is_begun(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, told = Blocks(), list[tuple[str, int, int]]()
    before = state(model)
    monkeypatch.setattr("sensitivity.profiling.memory_estimate.free_bytes", lambda _: 100)
    detail = rf"/estimators/{name}: needs about 0\.0 MiB \(.*\), 0\.0 MiB are free; use smaller batches"
    with pytest.raises(InvalidInputError, match=detail):
        profile_model(
            model,
            BATCHES,
            squares,
            ["int2", "int4"],
            {"first": lambda study: pytest.fail(f"began with {study}"), name: EVERY[name]},
            progress=lambda *step: told.append(step),
        )
    assert told == []
    assert state(model) == before


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(Blocks(), BATCHES, squares)
    monkeypatch.setattr("sensitivity.profiling.memory_estimate.free_bytes", lambda _: 10**6)
    require_room(study, EVERY)
    monkeypatch.setattr("sensitivity.profiling.memory_estimate.free_bytes", lambda _: None)
    require_room(study, EVERY)


def test_options_count() -> None:
    sizes = sizes_of(make_study(Blocks(), BATCHES, squares))

    def needed(name: str) -> int:
        estimator = EVERY[name]
        return sum(
            NEEDS[getattr(estimator, "func", estimator)](sizes, getattr(estimator, "keywords", {})).values()
        )

    assert needed("kl together") > 2 * needed("kl") - sizes.replayed
    assert needed("one by one") < needed("gauss_newton")
    assert needed("gauss_newton trace") < needed("hessian_trace")


def test_estimates_are_below_what_is_taken() -> None:
    # Against the storages that are really alive while the table is filled.
    from sensitivity.forward.storages import Storages

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 64), nn.Tanh(), nn.Linear(64, 8))
    study = make_study(model, [torch.randn(50, 64)], squares, ["int2", "int4", "int8"])
    sizes = sizes_of(study)
    for name in ("fisher", "hessian_trace", "gauss_newton trace", "kl", "lrp", "output_mse"):
        peak = [0]
        with Storages(lambda held, peak=peak: peak.append(max(peak.pop(), held))):
            EVERY[name](study)
        estimator = EVERY[name]
        need = NEEDS[getattr(estimator, "func", estimator)]
        estimate = sum(need(sizes, getattr(estimator, "keywords", {})).values())
        assert 0.25 * peak[0] < estimate < 1.5 * peak[0], (name, estimate, peak[0])
