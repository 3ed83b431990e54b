r"""How relevance passes each function of a model, as data: function name → rule.

Relevance is written as value times gradient, :math:`R = z \odot G`, so that a rule is a change of what goes back
through a function z = f(x) while its value stays. With J the Jacobian, s the sign of z and n the number of operands
that carry relevance:

- :func:`linear` (Linear, Conv, sums), the epsilon rule: :math:`G_x = J^\top (G\, z / (z + \epsilon s))`
- :func:`product` (matmul, elementwise products): :math:`G_x = J^\top (G\, z / (n z + \epsilon s))`
- :func:`identity` (activations), relevance passes unchanged: :math:`G_x = G\, z / x`
- :func:`constant` (reciprocals, norms): nothing passes
- :func:`quotient` (division): all goes to the numerator

Normalisations are rewritten as a mean, a difference and a product with a constant factor, which is the identity rule
on the normalising factor; attention is rewritten as products and a softmax. Functions without a rule keep their
gradient. That is exact for whatever picks or moves values (reshape, cat, max pooling) and for means, it is the
rule of AttnLRP for softmax, and elsewhere it shows as conservation error.

Source: R. Achtibat et al., "AttnLRP", ICML 2024 (linear maps, softmax, products, normalisation; its eqs. 8, 13, 15 and
propositions 3.1 to 3.4); H. Chefer et al., "Transformer Interpretability Beyond Attention Visualization", CVPR 2021
(products share relevance equally; softmax as an activation); S. Bach et al. (2015) for the epsilon rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from sensitivity.relevance.rewrites import REWRITES


class Rule(Protocol):
    """Calls a function, and decides what goes back through it."""

    def __call__(
        self, function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any], epsilon: float
    ) -> Tensor:
        """Return what the function returns, with the rule's gradient."""
        ...


class _Passed(torch.autograd.Function):
    """Takes a value forward, and multiplies what comes back by a slope."""

    @staticmethod
    def forward(ctx: Any, carrier: Tensor, value: Tensor, slope: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


def _passed(carrier: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    result: Tensor = _Passed.apply(carrier, value.detach(), slope)  # type: ignore[no-untyped-call]
    return result


def carries(value: object) -> bool:
    """Tell whether an operand carries relevance.

    Args:
        value: Anything a function takes.

    Returns:
        Whether it is a tensor that depends on what the relevance is traced back to.
    """
    return isinstance(value, Tensor) and value.requires_grad


def operands(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return everything that a function takes, with lists of tensors spread out."""
    found: list[Any] = []
    for value in (*args, *kwargs.values()):
        found.extend(value if isinstance(value, (list, tuple)) else [value])
    return found


def _stabilised(result: Tensor, operands: int, epsilon: float) -> Tensor:
    # z / (n z + ε sign z) = 1 / (n + ε / |z|), which is also right for z = 0 and for infinite z
    return _passed(result, result, 1 / (operands + epsilon / result.detach().abs()))


def linear(
    function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any], epsilon: float
) -> Tensor:
    """Split relevance in proportion to what each input contributes.

    Args:
        function: Linear in its inputs together.
        epsilon: ε.

    Returns:
        What the function returns.
    """
    return _stabilised(function(*args, **kwargs), 1, epsilon)


def product(
    function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any], epsilon: float
) -> Tensor:
    """Give every factor that carries relevance an equal part.

    Args:
        function: Linear in each of its factors.
        epsilon: ε.

    Returns:
        What the function returns.
    """
    factors = sum(map(carries, operands(args, kwargs)))  # before a function in place changes the first
    return _stabilised(function(*args, **kwargs), factors, epsilon)


def identity(
    function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any], epsilon: float
) -> Tensor:
    """Hand relevance through as it is; where the input is 0 there is none to hand through.

    Args:
        function: Elementwise.
        args: Its arguments, the input first.
        kwargs: Its named arguments; ``inplace`` is not followed.
        epsilon: Not used.

    Returns:
        What the function returns.
    """
    del epsilon
    named = {name: value for name, value in kwargs.items() if name != "inplace"}
    inputs, *rest = args if args else [named.pop("input")]
    source = inputs.detach()
    value = function(source.clone(), *rest, **named)
    return _passed(inputs, value, torch.where(source == 0, torch.zeros_like(value), value / source))


def constant(
    function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any], epsilon: float
) -> Tensor:
    """Let no relevance through.

    Args:
        epsilon: Not used.

    Returns:
        What the function returns, detached.
    """
    del epsilon
    return function(*args, **kwargs).detach()


def quotient(
    function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any], epsilon: float
) -> Tensor:
    """Give all relevance to the numerator.

    Args:
        function: Division.
        args: Numerator and denominator.
        epsilon: ε.

    Returns:
        What the function returns.
    """
    numerator, denominator = args
    if isinstance(denominator, Tensor):
        denominator = denominator.detach()
    return linear(function, (numerator, denominator), kwargs, epsilon)


@dataclass(frozen=True)
class Rules:
    """Everything that decides how relevance passes a model.

    Attributes:
        by_function: Function name → rule.
        rewrites: Function name → the same function in terms of others, which have rules.
        epsilon: ε of the epsilon rule: relevance of contributions below it is absorbed.
    """

    by_function: Mapping[str, Rule]
    rewrites: Mapping[str, Callable[..., Any]]
    epsilon: float = 1e-6


_LINEAR = (
    *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("add", "add_", "sub", "sub_", "__rsub__", "batch_norm"),
)
_PRODUCTS = ("mul", "mul_", "matmul", "__rmatmul__", "bmm", "einsum")
_ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign"),
    *("hardswish", "hardtanh", "hardsigmoid", "sigmoid", "logsigmoid", "tanh", "tanhshrink", "square", "pow"),
)
_CONSTANTS = ("rsqrt", "reciprocal", "__rdiv__", "norm", "vector_norm", "std", "var")

#: The rules of AttnLRP.
ATTN_LRP = Rules(
    {
        **dict.fromkeys(_LINEAR, linear),
        **dict.fromkeys(_PRODUCTS, product),
        **dict.fromkeys(_ACTIVATIONS, identity),
        **dict.fromkeys(_CONSTANTS, constant),
        **dict.fromkeys(("div", "div_"), quotient),
    },
    REWRITES,
)
#: The same with Chefer's softmax, which hands relevance through to the scores.
CHEFER = replace(ATTN_LRP, by_function={**ATTN_LRP.by_function, "softmax": identity})
