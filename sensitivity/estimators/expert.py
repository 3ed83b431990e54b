r"""How much a mixture-of-experts block uses an expert, times what rounding it does to the block (MC-MoE).

.. math:: c_{e,f} = \phi_e \, w_e^{3/2} \sum_b \lVert Y_b - Y_b^{(e,f)} \rVert_2

φ_e is the share of tokens that are routed to expert e and w_e the share of routing weight it gets (softmax before
renormalisation, summed over its tokens); both add up to 1 in a block. The norm, not squared, is that of the change of
the block's output on batch b with only this expert in format f.

The paper gives all layers of an expert one format. Here each layer is a row: the cost of the whole expert is shared
out in proportion to the error that each layer makes alone, so that the rows of an expert in one format add up to the
paper's number.

Source: W. Huang et al., "Mixture Compressor for MoE LLMs gains more", ICLR 2025, and its code
(``precision_solver.py``), whose exponents differ from the paper's; a factor 1000 is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer
from allocator.knapsack.problem import FloatArray
from quantize import StorageFormat
from sensitivity.models.expert_stacks import SeparateExperts
from sensitivity.models.layers import LayerRef
from sensitivity.study.calibration import sample_losses
from sensitivity.study.study import Study, once, replaced, require_layers_only, table, weight_in
from sensitivity.study.tasks import Key


@dataclass(frozen=True, eq=False)
class _Routed:
    """What passed through the experts of one block.

    Attributes:
        tokens: (T, H) inputs of the block, for each batch.
        experts: (T, k) chosen experts.
        weights: (T, k) what their outputs are multiplied with.
        probabilities: (T, E) softmax over all experts.
    """

    tokens: list[Tensor] = field(default_factory=list)
    experts: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    probabilities: list[Tensor] = field(default_factory=list)


def expert(study: Study, *, weight_power: float = 1.5) -> CostTable:
    """Fill the table from one forward pass over the data and one run of each expert per entry on its own tokens.

    Args:
        study: Model inside :func:`sensitivity.models.expert_stacks.split_experts`, data, layers and formats. Every
            layer must be one of a split expert: exclude the others, which the paper leaves at 4 bits.
        weight_power: Exponent of the routing weight.

    Returns:
        (L, F); standard errors are those of the output errors over batches, with the routing taken as known.

    Raises:
        InvalidInputError: A layer is not that of a split expert, or the router of a block is not known.
    """
    require_layers_only(study, "expert")
    places = [_place(study, layer) for layer in study.layers]
    keys = list(dict.fromkeys(places))
    stage = "expert" if weight_power == 1.5 else f"expert {weight_power:g}"
    made = study.engine(study, stage, keys, partial(_expert, power=weight_power))
    pieces = dict(zip(keys, made, strict=True))
    waiting = {key: iter(pieces[key]) for key in keys}
    costs = np.array([next(waiting[place]) for place in places])  # (L, F, K) costs on each batch
    values = costs.sum(axis=2)
    count = costs.shape[2]
    stderr = None if count < 2 else costs.std(axis=2, ddof=1) * np.sqrt(count)
    meaning = (
        f"share of tokens × share of routing weight^{weight_power:g} × norm of the change of the block's output, "
        "summed over batches; each layer's part of its expert"
    )
    return table(values, stderr, meaning)


def _place(study: Study, layer: LayerRef) -> Key:
    path = layer.name.split(".")
    for end in range(len(path) - 1, 0, -1):
        if isinstance(study.model.get_submodule(".".join(path[: end - 1])), SeparateExperts):
            return ".".join(path[: end - 1]), path[end - 1]
    detail = (
        "is not a layer of a split expert; profile inside split_experts(model), and exclude the other layers"
    )
    raise InvalidInputError(Fault(pointer(("layers", layer.name)), detail))


def _expert(study: Study, key: Key, *, power: float) -> FloatArray:
    blocks = once(study, "routed", partial(_routed, study))
    routed, index = blocks[key[0]], int(key[1])
    layers = [layer for layer in study.layers if _place(study, layer) == key]
    module = study.model.get_submodule(".".join(key))
    chosen = torch.cat(routed.experts)  # (T, k)
    probabilities = torch.cat(routed.probabilities)  # (T, E)
    share = float((chosen == index).double().mean())
    picked = probabilities.gather(1, chosen)
    weight = float(picked[chosen == index].sum() / picked.sum())
    importance = share * weight**power
    costs = np.zeros((len(layers), len(study.formats), len(routed.tokens)))
    with torch.no_grad():
        before = [_output(module, routed, index, batch) for batch in range(len(routed.tokens))]
        for column, fmt in enumerate(study.formats):
            # All before any is put in: a rounding may look at what goes through the original model.
            changed = [(layer, weight_in(study, layer, fmt)) for layer in layers]
            joint = _errors(module, changed, fmt, routed, index, before)  # (K,)
            own = np.array([_errors(module, [one], fmt, routed, index, before) for one in changed])
            total = own.sum(axis=0)
            parts = np.divide(own, total, out=np.zeros_like(own), where=total > 0)
            costs[:, column] = importance * joint * parts
    return costs


def _output(module: nn.Module, routed: _Routed, index: int, batch: int) -> Tensor:
    token, place = torch.where(routed.experts[batch] == index)
    made: Tensor = module(routed.tokens[batch][token]) * routed.weights[batch][token, place, None]
    return made


def _errors(
    module: nn.Module,
    changed: list[tuple[LayerRef, Tensor]],
    fmt: StorageFormat,
    routed: _Routed,
    index: int,
    before: list[Tensor],
) -> FloatArray:
    with ExitStack() as stack:
        for layer, weight in changed:
            stack.enter_context(replaced(layer, weight))
        after = [_output(module, routed, index, batch) for batch in range(len(before))]
    norms = [float((one.double() - two.double()).norm()) for one, two in zip(before, after, strict=True)]
    if not np.isfinite(norms).all():
        where = f"layer {changed[0][0].name!r} in format {fmt.name!r}"
        raise InvalidInputError(Fault("/batches", f"{where} gives an output that is not finite"))
    return np.array(norms)


def _routed(study: Study) -> dict[str, _Routed]:
    paths = dict.fromkeys(_place(study, layer)[0] for layer in study.layers)
    blocks = {path: _Routed() for path in paths}
    with torch.no_grad(), ExitStack() as stack:
        for path, routed in blocks.items():
            stack.enter_context(_watching(study.model, path, routed))
        for batch in study.batches:
            sample_losses(study.model, batch, study.loss_fn)
    return blocks


@contextmanager
def _watching(model: nn.Module, path: str, routed: _Routed) -> Iterator[None]:
    experts = model.get_submodule(path)
    assert isinstance(experts, SeparateExperts)
    router = getattr(model.get_submodule(path.rpartition(".")[0]), "gate", None)
    if not isinstance(router, nn.Module):
        detail = "expected the router next to the experts, as the module 'gate' of the block"
        raise InvalidInputError(Fault(pointer(("layers", path)), detail))

    def route(_: nn.Module, __: object, output: object) -> None:
        logits = output[0] if isinstance(output, tuple) else output
        if not isinstance(logits, Tensor) or logits.shape[-1] != experts.num_experts:
            detail = f"expected the router to give one logit for each of its {experts.num_experts} experts"
            raise InvalidInputError(Fault(pointer(("layers", path)), detail))
        routed.probabilities.append(logits.reshape(-1, experts.num_experts).softmax(-1, dtype=torch.float64))

    def enter(_: nn.Module, args: tuple[Tensor, Tensor, Tensor]) -> None:
        tokens, chosen, weights = args
        routed.tokens.append(tokens.clone())
        routed.experts.append(chosen.clone())
        routed.weights.append(weights.clone())

    handles = [router.register_forward_hook(route), experts.register_forward_pre_hook(enter)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
