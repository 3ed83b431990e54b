"""Modules answer from memory only where that cannot change a number."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sensitivity import discover
from sensitivity.forward.prefix import Prefix
from tests.sensitivity.studies import Blocks, state

INPUTS = torch.linspace(-1, 1, 20).reshape(5, 4)


def traced(model: nn.Module, inputs: Tensor = INPUTS) -> tuple[Prefix, Tensor]:
    prefix = Prefix(model)
    with torch.no_grad(), prefix.tracing(0):
        return prefix, model(inputs)


def prepared(model: nn.Module, layer: str, inputs: Tensor = INPUTS) -> tuple[Prefix, Tensor]:
    prefix, reference = traced(model, inputs)
    (wanted,) = [item for item in discover(model) if item.name == layer]
    with torch.no_grad():
        prefix.prepare(wanted.modules, 0, partial(model, inputs))
    return prefix, reference


def again(model: nn.Module, layer: str, inputs: Tensor = INPUTS) -> list[str]:
    """The layers that run when one of them changes; the outputs must not change."""
    prefix, reference = prepared(model, layer, inputs)
    calls: list[str] = []
    inner = {name: module for name, module in model.named_modules() if not list(module.children())}
    plain = {name: module.forward for name, module in inner.items()}

    def counted(name: str, forward: Callable[..., Tensor], *args: Tensor) -> Tensor:
        calls.append(name)
        return forward(*args)

    for name, module in inner.items():
        module.forward = partial(counted, name, plain[name])
    with torch.no_grad(), prefix.replaying(0):
        assert torch.equal(model(inputs), reference)
    for module in inner.values():
        del module.__dict__["forward"]
    return calls


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            "stem",
            [
                "stem",
                "blocks.0.0",
                "blocks.0.1",
                "blocks.1.0",
                "blocks.1.1",
                "blocks.2.0",
                "blocks.2.1",
                "head",
            ],
        ),
        (
            "blocks.0.0",
            ["blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1", "blocks.2.0", "blocks.2.1", "head"],
        ),
        ("blocks.2.0", ["blocks.2.0", "blocks.2.1", "head"]),
        ("head", ["head"]),
    ],
)
def test_only_what_comes_after_runs_again(layer: str, expected: list[str]) -> None:
    assert again(Blocks(), layer) == expected


def test_earlier_parts_of_the_block_of_the_layer_are_replayed_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    )
    assert again(model, "1.2") == ["1.2"]


class Steps(nn.Module):
    """Two layers with something of the test's choice between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor], part: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.part = nn.Identity() if part is None else part
        self.between = between

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.second(self.between(self.part, self.first(inputs)))
        return outputs


def test_a_module_that_changes_its_input_in_place_runs_again() -> None:
    def thrown_away(part: nn.Module, hidden: Tensor) -> Tensor:
        part(hidden)
        return hidden

    assert again(Steps(thrown_away, nn.ReLU(inplace=True)), "second") == ["part", "second"]


def test_a_module_that_gives_back_its_input_runs_again() -> None:
    def changed(part: nn.Module, hidden: Tensor) -> Tensor:
        same = part(hidden)
        same += 1  # and with it hidden
        return hidden

    assert again(Steps(changed), "second") == ["part", "second"]


def test_a_module_that_runs_twice_runs_again() -> None:
    def twice(part: nn.Module, hidden: Tensor) -> Tensor:
        result: Tensor = part(part(hidden))
        return result

    assert again(Steps(twice, nn.Tanh()), "second") == ["part", "part", "second"]


def test_outputs_that_are_changed_in_place_afterwards_are_kept_as_they_were() -> None:
    def raised(part: nn.Module, hidden: Tensor) -> Tensor:
        hidden += 1
        result: Tensor = part(hidden)
        return result

    model = Steps(raised, nn.Tanh())
    prefix, reference = prepared(model, "second")
    for _ in range(2):
        with torch.no_grad(), prefix.replaying(0):
            assert torch.equal(model(INPUTS), reference)


class Pair(nn.Module):
    """Returns more than a tensor."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = nn.Linear(4, 4)

    def forward(self, hidden: Tensor) -> object:
        new = self.layer(hidden)
        return (new, (new * 2, None)) if self.kind == "tuple" else {"new": new, "twice": new * 2}


@pytest.mark.parametrize(("kind", "expected"), [("tuple", ["second"]), ("dict", ["second"])])
def test_modules_may_return_more_than_a_tensor(kind: str, expected: list[str]) -> None:
    def unpacked(part: nn.Module, hidden: Tensor) -> Tensor:
        made = part(hidden)
        new, twice = (made[0], made[1][0]) if kind == "tuple" else (made["new"], made["twice"])
        result: Tensor = new + twice
        return result

    # A dict is not replayed, but what it is made of is.
    assert again(Steps(unpacked, Pair(kind)), "second") == expected


def test_a_tied_weight_counts_from_its_first_use_on() -> None:
    model = Blocks()
    model.blocks[2][0].weight = model.blocks[0][0].weight
    assert "blocks.0.0" in again(model, "blocks.0.0")


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2), (0, 1, 2, 0, 1, 2)])
def test_the_order_in_which_blocks_run_is_the_one_that_was_seen(order: tuple[int, ...]) -> None:
    calls = again(Blocks(order), "blocks.2.0")
    first = order.index(2)
    repeated = [index for index in order[:first] if order.count(index) > 1]
    assert calls[0] == (f"blocks.{repeated[0]}.0" if repeated else "blocks.2.0")


def test_a_layer_that_does_not_run_needs_nothing() -> None:
    model = Blocks((0, 2))
    assert len(again(model, "blocks.1.0")) == 6


def test_each_batch_has_outputs_of_its_own_and_layers_may_come_in_any_order() -> None:
    model, batches = Blocks(), (INPUTS, -INPUTS)
    prefix = Prefix(model)
    references = []
    with torch.no_grad():
        for batch, inputs in enumerate(batches):
            with prefix.tracing(batch):
                references.append(model(inputs))
        assert not torch.equal(references[0], references[1])
        for layer in (*reversed(discover(model)), *discover(model)):
            for batch, inputs in enumerate(batches):
                prefix.prepare(layer.modules, batch, partial(model, inputs))
                with prefix.replaying(batch):
                    assert torch.equal(model(inputs), references[batch])


def test_preparing_computes_no_more_than_what_is_missing() -> None:
    model = Blocks()
    prefix, _ = prepared(model, "blocks.1.0")
    calls: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    (last,) = [item for item in discover(model) if item.name == "blocks.2.0"]
    with torch.no_grad():
        prefix.prepare(last.modules, 0, partial(model, INPUTS))
        prefix.prepare(last.modules, 0, partial(model, INPUTS))
    # The stem answers from memory, which its hook sees; nothing after block 1 runs.
    assert calls == ["stem", "blocks.1.0"]


@pytest.mark.parametrize("stage", ["tracing", "preparing", "replaying"])
def test_the_model_is_as_it_was_afterwards_and_after_an_error(stage: str) -> None:
    model = Blocks()
    before = state(model)
    prefix, reference = prepared(model, "blocks.1.0")
    assert state(model) == before

    def broken() -> None:
        raise RuntimeError("broke")

    def run() -> None:
        if stage == "preparing":
            prefix.prepare(discover(model)[-1].modules, 0, broken)
        with prefix.tracing(0) if stage == "tracing" else prefix.replaying(0):
            broken()

    with pytest.raises(RuntimeError, match="broke"):
        run()
    assert state(model) == before
    with torch.no_grad():
        assert torch.equal(model(INPUTS), reference)


def test_a_forward_that_was_set_on_a_module_survives() -> None:
    model = Blocks()
    model.blocks[0].forward = lambda hidden: hidden * 0
    prefix, reference = prepared(model, "blocks.1.0")
    with prefix.replaying(0):
        pass
    with torch.no_grad():
        assert torch.equal(model(INPUTS), reference)


def test_inference_tensors_are_accepted() -> None:
    with torch.inference_mode():
        inputs = INPUTS.clone()
    assert again(Blocks(), "head", inputs) == ["head"]
