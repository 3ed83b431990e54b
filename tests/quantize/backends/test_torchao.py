"""Codes and scales of torchao against the reference."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from allocator import InvalidInputError, MissingPackageError
from quantize import Rounding, apply, parse_format, quantize, restored, round_trip
from tests.quantize.models import TOKENS, Tied, Tokens, dequantized, outputs


def one_layer(kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 10) if kind == "linear" else nn.Embedding(10, 48))


@pytest.mark.parametrize("kind", ["linear", "embedding"])
@pytest.mark.parametrize("group", ["", "-g48", "-g16", "-g3", "-g2"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_and_scales_equal_the_reference_bit_for_bit(bits: int, group: str, kind: str) -> None:
    model, name = one_layer(kind), f"int{bits}{group}"
    expected = quantize(model[0].weight.detach().numpy(), parse_format(name))
    stored = apply(model, {"0": name}, "torchao")[0].weight
    assert np.array_equal(stored.qdata.numpy(), expected.codes.reshape(10, 48))
    assert stored.scale.dtype == torch.float16
    assert np.array_equal(stored.scale.numpy().reshape(10, -1), expected.scales)
    assert not stored.zero_point.any()
    assert np.array_equal(stored.dequantize().numpy(), expected.dequantize())


@pytest.mark.parametrize("kind", ["linear", "embedding"])
@pytest.mark.parametrize("group", ["", "-g16", "-g3"])
def test_one_bit_is_minus_s_and_s_by_a_zero_point_of_half_a_step(group: str, kind: str) -> None:
    model, name = one_layer(kind), f"int1{group}"
    expected = quantize(model[0].weight.detach().numpy(), parse_format(name))
    changed = apply(model, {"0": name}, "torchao")
    stored = changed[0].weight
    assert set(stored.qdata.unique().tolist()) == {-1, 0}
    assert np.array_equal(stored.scale.numpy().reshape(10, -1), 2 * expected.scales)
    assert np.array_equal(stored.dequantize().numpy(), expected.dequantize())
    if kind == "linear":
        inputs = torch.randn(5, 48)
        by_hand = inputs @ torch.from_numpy(expected.dequantize()).T + model[0].bias
        torch.testing.assert_close(changed(inputs), by_hand)


@pytest.mark.parametrize("name", ["int1", "int2", "int4-g4", "int8-g4", "int8"])
def test_groups_of_zeros_and_tiny_groups_do_not_become_nan(name: str) -> None:
    model = nn.Sequential(nn.Linear(8, 3, bias=False))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[1, :4] = torch.tensor([1e-30, -1e-30, 0, 1e-42])
        model[0].weight[2, 4:] = torch.tensor([1.0, -2, 3, -4])
    original = model[0].weight.detach().numpy()
    changed = apply(model, {"0": name}, "torchao")
    assert np.array_equal(changed[0].weight.dequantize().numpy(), round_trip(original, parse_format(name)))
    outputs = changed(torch.ones(1, 8))
    assert torch.isfinite(outputs).all()
    assert outputs[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_floating_formats_keep_the_numbers_of_the_narrow_format(name: str, dtype: torch.dtype) -> None:
    model = one_layer("linear")
    changed = apply(model, {"0": name}, "torchao")[0].weight
    assert changed.dtype == torch.float32
    assert torch.equal(changed, changed.to(dtype).float())
    assert np.array_equal(
        changed.detach().numpy(), round_trip(model[0].weight.detach().numpy(), parse_format(name))
    )


def test_every_layer_of_a_mixed_plan_gets_its_own_format() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(9, 32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 32), nn.Linear(32, 4)
    )
    plan = {"0": "int8-g16", "1": "int3", "3": "fp16"}
    changed = apply(model, plan, "torchao")
    for layer, name in plan.items():
        expected = round_trip(model.get_submodule(layer).weight.detach().numpy(), parse_format(name))
        weight = changed.get_submodule(layer).weight.detach()
        weight = weight.dequantize() if name.startswith("int") else weight
        assert np.array_equal(weight.numpy(), expected), layer
    assert torch.equal(changed[4].weight, model[4].weight)


def test_training_mode_is_kept() -> None:
    assert apply(one_layer("linear").train(), {"0": "int4"}, "torchao").training
    assert not apply(one_layer("linear").eval(), {"0": "int4"}, "torchao").training


def test_asymmetric_formats_are_refused() -> None:
    with pytest.raises(
        InvalidInputError,
        match="/assignment/0: the torchao backend runs symmetric formats; 'uint4-g16' is not",
    ):
        apply(one_layer("linear"), {"0": "uint4-g16"}, "torchao")


@pytest.mark.parametrize("group", [5, 32, 96])
def test_groups_that_do_not_divide_the_row_are_refused(group: int) -> None:
    detail = f"/assignment/0: torchao needs groups that divide the row; {group} does not divide 48"
    with pytest.raises(InvalidInputError, match=detail):
        apply(one_layer("linear"), {"0": f"int4-g{group}"}, "torchao")


@pytest.mark.parametrize(("row", "name"), [(8, "int4-g1"), (1, "int8")])
def test_groups_of_one_weight_are_refused(row: int, name: str) -> None:
    with pytest.raises(InvalidInputError, match="/assignment/0"):
        apply(nn.Sequential(nn.Linear(row, 3)), {"0": name}, "torchao")


def test_modules_without_a_weight_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="/assignment/0: ReLU has no weight to quantize"):
        apply(nn.Sequential(nn.ReLU()), {"0": "int4"}, "torchao")


def test_all_refusals_come_at_once() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 8))
    with pytest.raises(InvalidInputError, match="symmetric") as caught:
        apply(model, {"0": "int4", "1": "uint4", "2": "int4"}, "torchao")
    assert [fault.pointer for fault in caught.value.faults] == ["/assignment/0", "/assignment/1"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Conv2d(3, 4, 3), "int4"),
        (nn.Conv2d(3, 4, 3), "int4-g9"),
        (nn.Conv1d(3, 4, 3), "int4"),
        (nn.LayerNorm(8), "int4"),
    ],
    ids=["Conv2d per row", "Conv2d in groups", "Conv1d", "LayerNorm"],
)
def test_kinds_whose_codes_would_not_be_those_of_the_reference_are_refused(
    module: nn.Module, name: str
) -> None:
    with pytest.raises(InvalidInputError, match="/assignment/0"):
        apply(nn.Sequential(module), {"0": name}, "torchao")


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions_take_floating_formats(kind: type[nn.Conv1d | nn.Conv2d]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind(3, 4, 3))
    changed = apply(model, {"0": "bf16"}, "torchao")
    expected = round_trip(model[0].weight.detach().numpy(), parse_format("bf16"))
    assert np.array_equal(changed[0].weight.detach().numpy(), expected)


@pytest.mark.parametrize(("name", "value"), [("int4", float("nan")), ("int4", 1e9), ("fp16", 1e9)])
def test_weights_that_the_reference_refuses_are_refused(name: str, value: float) -> None:
    model = one_layer("linear")
    with torch.no_grad():
        model[0].weight[0, 0] = value
    with pytest.raises(InvalidInputError, match=r"NaN or infinity|beyond half precision|beyond the 65504"):
        apply(model, {"0": name}, "torchao")


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_a_weight_that_is_tied_stays_tied_in_floating_formats(name: str) -> None:
    changed = apply(Tied(), {"embed": name}, "torchao")
    assert changed.head.weight is changed.embed.weight


def test_a_weight_that_is_tied_is_quantized_wherever_it_is_used() -> None:
    model = Tied()
    changed = apply(model, {"embed": "int4-g16"}, "torchao")
    expected = round_trip(model.embed.weight.detach().numpy(), parse_format("int4-g16"))
    for module in (changed.embed, changed.head):
        assert np.array_equal(module.weight.detach().dequantize().numpy(), expected)


def test_without_torchao_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(
        MissingPackageError, match=r"torchao is needed here .* pip install 'bitalloc\[torchao\]'"
    ):
        apply(one_layer("linear"), {"0": "int4"}, "torchao")


# Small floats and rounded inputs


@pytest.mark.parametrize("layer", ["embed", "up"])
def test_eight_bit_floats_are_those_of_the_reference(layer: str) -> None:
    changed = apply(Tokens().eval(), {layer: "fp8-e4m3"}, "torchao")
    weight = changed.get_submodule(layer).weight
    assert weight.qdata.dtype == torch.float8_e4m3fn
    expected = round_trip(Tokens().get_submodule(layer).weight.detach().numpy(), parse_format("fp8-e4m3"))
    assert np.array_equal(weight.dequantize().detach().numpy(), expected)
    theirs = dequantized(Tokens().eval(), {layer: "fp8-e4m3"})
    np.testing.assert_allclose(outputs(changed), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mxfp8", "mxfp4"])
def test_microscaling_is_that_of_the_reference_and_runs_in_bfloat16(name: str) -> None:
    model = Tokens().eval().bfloat16()
    changed = apply(model, {"up": name, "down": name}, "torchao")
    for layer in ("up", "down"):
        original = model.get_submodule(layer).weight.detach().float().numpy()
        ours = changed.get_submodule(layer).weight.dequantize().float().numpy()
        assert np.array_equal(ours, round_trip(original, parse_format(name)))
    with torch.no_grad():
        tokens = torch.from_numpy(TOKENS)
        error = (changed(tokens) - model(tokens)).abs().max() / model(tokens).abs().max()
    assert 0 < error < (0.6 if name == "mxfp4" else 0.1)


@pytest.mark.parametrize("method", ["nearest", "scale_search"])
def test_dynamic_layers_have_the_codes_of_the_reference_and_round_their_inputs(method: str) -> None:
    plan, rounding = {"up": "int8-dynamic", "down": "int8-dynamic"}, Rounding(method)
    model = Tokens().eval()
    changed = apply(model, plan, "torchao", rounding=rounding)
    for layer in plan:
        original = model.get_submodule(layer).weight.detach().numpy()
        ours = changed.get_submodule(layer).weight.dequantize().detach().numpy()
        assert np.array_equal(ours, restored(original, parse_format("int8"), rounding))
    # Inputs of 8 bits per token: half a step of 1/127 of the largest, averaged over a row.
    theirs = dequantized(model, dict.fromkeys(plan, "int8"))
    error = np.abs(outputs(changed) - theirs).max() / np.abs(theirs).max()
    assert 1e-5 < error < 0.03


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (
            {"up": "mxfp8"},
            r"/assignment/up: torchao computes mxfp8 in bfloat16 only, .* torch.float32; use model.bfloat16",
        ),
        (
            {"embed": "mxfp4"},
            "/assignment/embed: the torchao backend quantizes Linear to mxfp4, not Embedding",
        ),
        (
            {"embed": "int8-dynamic"},
            "/assignment/embed: the torchao backend quantizes Linear to int8-dynamic",
        ),
    ],
)
def test_what_does_not_run_on_a_cpu_is_refused(plan: dict[str, str], match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        apply(Tokens().eval(), plan, "torchao")


def test_a_tied_weight_in_two_formats_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="/assignment/head: shares its weight with 'embed', which has int4-g16"
    ):
        apply(Tied().eval(), {"embed": "int4-g16", "head": "int8"}, "torchao")


def test_layers_whose_weight_is_read_by_other_code_are_refused() -> None:
    """quantize_ takes them, and their first pass fails."""
    from transformers import FalconConfig, FalconForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    falcon = FalconForCausalLM(FalconConfig(**sizes)).eval()
    name = "transformer.h.0.mlp.dense_h_to_4h"
    with pytest.raises(
        InvalidInputError, match=f"/assignment/{name}: FalconLinear computes with the weight its"
    ):
        apply(falcon, {name: "int4-g32"}, "torchao")
    apply(falcon, {name: "fp16"}, "torchao")
    attention = nn.ModuleDict({"mha": nn.MultiheadAttention(32, 2)})
    with pytest.raises(
        InvalidInputError, match=r"/assignment/mha.out_proj: nn.MultiheadAttention computes with"
    ):
        apply(attention, {"mha.out_proj": "int8-g32"}, "torchao")


class Adapted(nn.Module):
    """A layer beside two narrow ones, as peft wraps it; its weight is that of the layer."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.down = nn.Linear(base_layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, base_layer.out_features, bias=False)

    @property
    def weight(self) -> torch.Tensor:
        return self.base_layer.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.base_layer(inputs) + self.up(self.down(inputs))
        return result


def test_a_layer_below_an_adapter_is_quantized() -> None:
    model = nn.ModuleDict({"q_proj": Adapted(nn.Linear(32, 16))})
    changed = apply(model, {"q_proj.base_layer": "int4-g32"}, "torchao")
    assert changed["q_proj"].weight is changed["q_proj"].base_layer.weight
    assert bool(torch.isfinite(changed["q_proj"](torch.ones(1, 32))).all())
    with pytest.raises(
        InvalidInputError, match=r"/assignment/q_proj: .* quantizes Linear and Embedding .*Adapted"
    ):
        apply(model, {"q_proj": "int4-g32"}, "torchao")


@pytest.mark.parametrize(
    ("kind", "options", "read", "called"),
    [
        ("Mamba", {"state_size": 4}, "backbone.layers.0.mixer.dt_proj", "backbone.layers.0.mixer.in_proj"),
        ("Rwkv", {"context_length": 8}, "rwkv.blocks.0.attention.output", "rwkv.blocks.0.attention.key"),
        ("Rwkv", {"context_length": 8}, "rwkv.blocks.0.feed_forward.value", "rwkv.blocks.0.feed_forward.key"),
    ],
)
def test_layers_whose_weight_their_module_reads_are_refused(
    kind: str, options: dict[str, int], read: str, called: str
) -> None:
    """quantize_ takes them, and their first pass fails."""
    import transformers

    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}
    config = getattr(transformers, f"{kind}Config")(**sizes, **options)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with pytest.raises(InvalidInputError, match=f"/assignment/{read}: {kind}.* computes with the weight of"):
        apply(model, {read: "int8"}, "torchao")
    with torch.no_grad():
        made = apply(model, {called: "int8"}, "torchao")(torch.tensor([[3, 4, 5]]))
    assert bool(made.logits.isfinite().all())
