"""Second moments against sums over single rows, and tables that are measured with what backends ship."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError, Profile
from quantize import NEAREST, Rounding, apply, parse_format, restored
from sensitivity import Study, discover, gauss_newton, input_moments, kl, measured, profile_model
from sensitivity.engines.journal import Journal
from sensitivity.study.study import rounded, silent, weight_in
from tests.sensitivity.language_models import mixtral, next_token, tokens
from tests.sensitivity.studies import Blocks, squares, state

BATCHES = [torch.linspace(-1, 1, 20).reshape(5, 4), torch.linspace(2, -1, 12).reshape(3, 4)]
GPTQ = Rounding("gptq", steps=0)
ROUNDINGS = [GPTQ, Rounding("gptq", act_order=True), Rounding("scale_search", steps=8)]


def moments_of(model: nn.Module, batches: list[Tensor], loss_fn: Any = squares) -> dict[str, Any]:
    return input_moments(model, batches, loss_fn, discover(model))


def outer(rows: Tensor) -> np.ndarray:
    """Σ x xᵀ, one row at a time."""
    return sum((np.outer(row, row) for row in rows.double().numpy()), start=np.zeros(()))


def test_moments_of_linear_layers_add_up_over_batches() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    before = state(model)
    made = moments_of(model, BATCHES)
    with torch.no_grad():
        hidden = torch.tanh(model[0](torch.cat(BATCHES)))
    np.testing.assert_allclose(made["0"][0], outer(torch.cat(BATCHES)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made["2"][0], outer(hidden), rtol=1e-5, atol=1e-6)
    assert state(model) == before


def test_moments_of_half_precision_do_not_overflow() -> None:
    model = nn.Sequential(nn.Linear(4, 3)).to(torch.bfloat16)
    made = moments_of(model, [torch.full((5, 4), 2e19, dtype=torch.bfloat16)])
    assert made["0"].dtype == np.float32
    assert np.isfinite(made["0"]).all() is np.bool_(False)  # 4e38 is beyond single precision too
    made = moments_of(model, [torch.full((5, 4), 300.0, dtype=torch.bfloat16)])
    np.testing.assert_allclose(made["0"], np.full((1, 4, 4), 5 * 300.0**2), rtol=1e-2)


def test_lookups_are_counted_and_tied_weights_have_the_moments_of_the_product() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Tanh(), nn.Linear(4, 5, bias=False))
    ids = torch.tensor([[0, 1], [1, 4]])
    assert moments_of(model, [ids])["0"].tolist() == [1, 2, 0, 0, 1]
    model[2].weight = model[0].weight
    with torch.no_grad():
        hidden = torch.tanh(model[0](ids)).flatten(0, 1)
    (moment,) = moments_of(model, [ids]).values()
    np.testing.assert_allclose(moment[0], outer(hidden), rtol=1e-5, atol=1e-6)


def test_hooks_are_gone_also_when_a_batch_raises() -> None:
    model = Blocks().eval()
    before = state(model)
    with pytest.raises(RuntimeError, match="shape"):
        moments_of(model, [BATCHES[0], torch.ones(2, 5)])
    assert state(model) == before


def study_of(rounding: Rounding, model: nn.Module | None = None) -> Study:
    model = model or Blocks().eval()
    formats = tuple(map(parse_format, ("int2", "int4-g4", "uint3", "fp16")))
    return Study(model, BATCHES, squares, discover(model), formats, 0, silent, rounding=rounding)


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=repr)
def test_weights_are_those_that_backends_restore(rounding: Rounding) -> None:
    study = study_of(rounding)
    moments = moments_of(study.model, BATCHES)
    differ = 0
    for layer in study.layers:
        for fmt in study.formats:
            plain = layer.weight.detach().numpy()
            made = weight_in(study, layer, fmt)
            assert np.array_equal(made.numpy(), restored(plain, fmt, rounding, moments[layer.name]))
            differ += not torch.equal(made, rounded(layer, fmt))
    assert differ >= 5


def outputs(model: nn.Module, batch: Tensor) -> Tensor:
    made: Tensor = model(batch)
    return made


def distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().sum(1)


TABLES: dict[str, Any] = {
    "weight_error": "weight_error",
    "output_mse": "output_mse",
    "fisher": "fisher",
    "hessian_trace": "hessian_trace",
    "lrp": "lrp",
    "zd": "zd",
    "loss": "loss",
    "kl": partial(kl, logits=outputs),
    "gauss_newton": partial(gauss_newton, outputs=outputs),
    "distance": partial(measured, name="distance", outputs=outputs, distance=distance, meaning=""),
}


def profiled(rounding: Rounding, **options: Any) -> Profile:
    from sensitivity import ESTIMATORS

    tables = {name: ESTIMATORS[item] if isinstance(item, str) else item for name, item in TABLES.items()}
    formats = ["int2", "int4-g4", "uint3", "fp16"]
    return profile_model(Blocks(), BATCHES, squares, formats, tables, rounding=rounding, **options)


def test_every_table_is_one_of_the_rounding_that_was_asked_for() -> None:
    plain, made = profiled(NEAREST), profiled(GPTQ)
    assert "/costs" not in plain.provenance.notes
    assert "gptq" in made.provenance.notes["/costs"]
    assert made.digest() == profiled(GPTQ).digest()
    for name in TABLES:
        one, other = np.array(plain.costs[name].values), np.array(made.costs[name].values)
        assert np.array_equal(one[:, -1], other[:, -1])  # fp16 has one way of rounding
        assert not np.array_equal(one[:, 0], other[:, 0]), name
    # Compensation is for the layer's own output, which it makes no worse, at the price of the weights.
    before, after = (np.array(item.costs["output_mse"].values)[:, :-1] for item in (plain, made))
    assert (after <= before * (1 + 1e-5)).all()
    assert after.sum() < 0.9 * before.sum()


def test_measured_tables_are_those_of_the_module_that_a_backend_makes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).eval()
    batches, fmt = [torch.randn(9, 8), torch.randn(5, 8)], "int4-g8"
    study = Study(model, batches, squares, discover(model), (parse_format(fmt),), 0, silent, rounding=GPTQ)
    table = measured(study, name="gap", outputs=outputs, distance=distance, meaning="")
    moments = input_moments(model, batches, squares, study.layers)
    for layer, (value,) in zip(study.layers, table.values, strict=True):
        shipped = apply(model, {layer.name: fmt}, "torchao", rounding=GPTQ, moments=moments)
        with torch.no_grad():
            gaps = torch.cat([distance(model(batch), shipped(batch)) for batch in batches])
        assert value == pytest.approx(float(gaps.double().mean()), rel=1e-4)


def test_a_journal_of_another_rounding_is_refused(tmp_path: Any) -> None:
    profiled(NEAREST, engine=Journal(tmp_path / "run.journal"))
    with pytest.raises(InvalidInputError, match="rounding"):
        profiled(GPTQ, engine=Journal(tmp_path / "run.journal"))


def test_experts_in_stacks_are_refused() -> None:
    detail = r"/rounding: experts in stacks, such as '.*experts.*', are rounded to nearest only, got 'gptq'"
    with pytest.raises(InvalidInputError, match=detail):
        profile_model(mixtral(), [tokens()], next_token, ["int2"], [], rows=["expert"], rounding=GPTQ)


def test_layers_that_take_no_part_have_no_moments_and_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    used = nn.Sequential(model[0])
    study = Study(
        model, BATCHES, lambda _, batch: squares(used, batch), discover(model), (), 0, silent, rounding=GPTQ
    )
    with pytest.raises(InvalidInputError, match=r"/layers/1: gptq needs the second moment .* got none"):
        weight_in(study, study.layers[1], parse_format("int2"))
