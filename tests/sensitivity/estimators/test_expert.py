"""Expert costs by the paper's definition: the whole block again with one expert rounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from quantize import parse_format, round_trip
from sensitivity import Study, discover, expert
from sensitivity.models.expert_stacks import split_experts
from sensitivity.study.study import silent
from tests.sensitivity.language_models import mixtral, next_token, tokens
from tests.sensitivity.studies import state

BATCHES = [tokens(3), tokens(2, seed=1)]
FORMATS = ("int2-g8", "int4-g8", "fp32")
OTHERS = ("*.self_attn.*", "model.embed_tokens", "lm_head")


def study_of(model: nn.Module, **options: Any) -> Study:
    parsed = tuple(map(parse_format, FORMATS))
    values: dict[str, Any] = {"batches": BATCHES, "loss_fn": next_token, "progress": silent} | options
    return Study(
        model, values["batches"], values["loss_fn"], discover(model, OTHERS), parsed, 0, values["progress"]
    )


@pytest.fixture
def model() -> Iterator[nn.Module]:
    made = mixtral()
    with split_experts(made):
        yield made


def blocks_of(model: Any) -> list[Any]:
    return [layer.mlp for layer in model.model.layers]


def slow(model: Any) -> np.ndarray:
    """(blocks, E, F): frequency × weight^1.5 × Σ ‖Y - Y_q‖, with the unsplit formulas of the block."""
    table = []
    for block in blocks_of(model):
        seen: list[Tensor] = []
        hook = block.register_forward_hook(lambda _, given, __, seen=seen: seen.append(given[0].clone()))
        with torch.no_grad():
            for batch in BATCHES:
                model(batch)
        hook.remove()
        counts, weights = np.zeros(4), np.zeros(4)
        for hidden in seen:
            for token in hidden.reshape(-1, 16):
                p = torch.softmax(block.gate.weight.detach() @ token, 0)
                for chosen in p.topk(2).indices.tolist():
                    counts[chosen] += 1
                    weights[chosen] += float(p[chosen])
        errors = np.zeros((4, len(FORMATS)))
        for index in range(4):
            for column, name in enumerate(FORMATS):
                with torch.no_grad():
                    before = [block(hidden).double() for hidden in seen]
                    plain = [
                        parameter.clone()
                        for parameter in block.experts.get_submodule(str(index)).parameters()
                    ]
                    for parameter in block.experts.get_submodule(str(index)).parameters():
                        parameter.copy_(torch.from_numpy(round_trip(parameter.numpy(), parse_format(name))))
                    after = [block(hidden).double() for hidden in seen]
                    for parameter, old in zip(
                        block.experts.get_submodule(str(index)).parameters(), plain, strict=True
                    ):
                        parameter.copy_(old)
                errors[index, column] = sum(float((a - b).norm()) for a, b in zip(before, after, strict=True))
        importance = counts / counts.sum() * (weights / weights.sum()) ** 1.5
        table.append(importance[:, None] * errors)
    return np.array(table)


def test_the_rows_of_an_expert_add_up_to_the_number_of_the_paper(model: nn.Module) -> None:
    study = study_of(model)
    made = np.array(expert(study).values)
    expected = slow(model)
    for block in range(2):
        for index in range(4):
            prefix = f"model.layers.{block}.mlp.experts.{index}."
            rows = [row for row, layer in enumerate(study.layers) if layer.name.startswith(prefix)]
            assert len(rows) == 3
            np.testing.assert_allclose(made[rows].sum(axis=0), expected[block, index], rtol=1e-4, atol=1e-9)
    assert (made[:, 0] > 0).all()
    assert (made[:, 2] == 0).all()


def test_a_layer_on_its_own_is_not_shared_with_the_rest_of_its_expert(model: nn.Module) -> None:
    both = study_of(model)
    layers = tuple(layer for layer in both.layers if "down_proj" in layer.name)
    alone = Study(model, BATCHES, next_token, layers, both.formats, 0, silent)
    whole = np.array(expert(both).values)[[layer in layers for layer in both.layers]]
    assert (np.array(expert(alone).values)[:, 0] > whole[:, 0]).all()


def test_standard_errors_are_those_over_batches(model: nn.Module) -> None:
    made = expert(study_of(model))
    assert made.stderr is not None
    assert np.array(made.stderr)[:, 0].all()
    assert expert(study_of(model, batches=BATCHES[:1])).stderr is None


def test_the_exponent_of_the_weight_can_be_chosen(model: nn.Module) -> None:
    made = [np.array(expert(study_of(model), weight_power=power).values)[:, 0] for power in (0.0, 1.5)]
    assert (made[0] > made[1]).all()


def test_an_expert_that_no_token_is_routed_to_costs_nothing(model: Any) -> None:
    gate = model.model.layers[0].mlp.gate
    with torch.no_grad():
        gate.weight[2] = 0
    study = study_of(model, batches=[tokens(1)[:, :1]])
    seen = []
    hook = model.model.layers[0].mlp.experts.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    with torch.no_grad():
        model(tokens(1)[:, :1])
    hook.remove()
    unused = next(index for index in range(4) if index not in seen[0].flatten().tolist())
    made = dict(zip([layer.name for layer in study.layers], expert(study).values, strict=True))
    assert made[f"model.layers.0.mlp.experts.{unused}.down_proj"] == (0.0, 0.0, 0.0)


def test_other_layers_are_refused_by_name(model: nn.Module) -> None:
    parsed = tuple(map(parse_format, FORMATS))
    study = Study(model, BATCHES, next_token, discover(model, ["model.embed_tokens"]), parsed, 0, silent)
    detail = r"/layers/model\.layers\.0\.self_attn\.q_proj: is not a layer of a split expert"
    with pytest.raises(InvalidInputError, match=detail):
        expert(study)


class Bare(nn.Module):
    """Experts without a router next to them, or with one of another size."""

    def __init__(self, experts: nn.Module, gate: nn.Module | None) -> None:
        super().__init__()
        self.experts = experts
        if gate is not None:
            self.gate = gate

    def forward(self, hidden: Tensor) -> Tensor:
        if hasattr(self, "gate"):
            self.gate(hidden)
        chosen = torch.zeros(len(hidden), 1, dtype=torch.long)
        made: Tensor = self.experts(hidden, chosen, torch.ones(len(hidden), 1))
        return made


@pytest.mark.parametrize(
    ("gate", "detail"),
    [
        (None, "/layers/0.experts: expected the router next to the experts"),
        (
            nn.Linear(16, 3),
            "/layers/0.experts: expected the router to give one logit for each of its 4 experts",
        ),
    ],
)
def test_routers_that_are_not_known_are_refused(gate: nn.Module | None, detail: str, model: Any) -> None:
    alone = nn.Sequential(Bare(model.model.layers[0].mlp.experts, gate))
    layers = tuple(layer for layer in discover(alone) if "experts" in layer.name)
    study = Study(
        alone,
        [torch.ones(2, 16)],
        lambda net, batch: net(batch).sum(1),
        layers,
        (parse_format("int2"),),
        0,
        silent,
    )
    with pytest.raises(InvalidInputError, match=detail):
        expert(study)


def test_outputs_that_are_not_finite_are_refused_with_layer_and_format(model: Any) -> None:
    with torch.no_grad():
        model.model.embed_tokens.weight[:] = torch.inf
    with pytest.raises(InvalidInputError, match="in format 'int2-g8' gives an output that is not finite"):
        expert(study_of(model))


def test_the_model_is_as_it_was_afterwards_and_when_the_loss_raises(model: nn.Module) -> None:
    study = study_of(model)
    before = state(model)
    expert(study)
    assert state(model) == before

    def breaks(model: nn.Module, batch: Tensor) -> Tensor:
        next_token(model, batch)
        raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        expert(study_of(model, loss_fn=breaks))
    assert state(model) == before


def test_progress_is_told_after_every_expert(model: nn.Module) -> None:
    told: list[tuple[str, int, int]] = []
    expert(study_of(model, progress=lambda *step: told.append(step)))
    assert told == [("expert", done, 8) for done in range(1, 9)]
