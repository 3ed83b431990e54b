"""Fused functions in terms of those that have a relevance rule.

Each takes the arguments of the function it stands for and gives the same value up to rounding. The factor that a
normalisation divides by comes from ``rsqrt`` or as a denominator, both of which carry no relevance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from allocator import Fault, InvalidInputError


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.layer_norm``.

    Args:
        input: (…, N), N standing for ``normalized_shape``

    Returns:
        A tensor like the input.
    """
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    return _affine(centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps), weight, bias)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``torch.nn.functional.rms_norm``.

    Args:
        input: (…, N), N standing for ``normalized_shape``

    Returns:
        A tensor like the input.
    """
    axes = tuple(range(-len(normalized_shape), 0))
    power = input.square().mean(axes, keepdim=True)
    return _affine(
        input * torch.rsqrt(power + (torch.finfo(input.dtype).eps if eps is None else eps)), weight, None
    )


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.group_norm``.

    Args:
        input: (B, C, …)
        num_groups: Groups that the C channels are split into.
        weight: (C,) scale.
        bias: (C,) shift.

    Returns:
        A tensor like the input.
    """
    groups = input.reshape(input.shape[0], num_groups, -1)
    normed = layer_norm(groups, groups.shape[-1:], eps=eps).reshape(input.shape)
    shape = (-1, *[1] * (input.dim() - 2))
    return _affine(
        normed,
        None if weight is None else weight.reshape(shape),
        None if bias is None else bias.reshape(shape),
    )


def _affine(value: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = value if weight is None else value * weight
    return scaled if bias is None else scaled + bias


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """``torch.nn.functional.normalize``.

    Args:
        input: Vectors.
        p: Which norm.
        dim: Along which dimension.
        eps: Smallest norm to divide by.
        out: Must be absent, as always where gradients are taken.

    Returns:
        A tensor like the input.
    """
    del out
    length: Tensor = torch.linalg.vector_norm(input, p, dim, keepdim=True)
    return input / length.clamp_min(eps)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention``, without dropout.

    Args:
        query: (…, H, T, D)
        key: (…, H, S, D), or fewer heads with ``enable_gqa``.
        value: Like the key.
        attn_mask: True where attention is allowed, or numbers to add to the scores.
        dropout_p: Ignored: models are in evaluation mode.
        is_causal: Whether a position sees only itself and those before.
        scale: Factor of the scores; 1/√D when absent.
        enable_gqa: Whether several queries share a head of keys and values.

    Returns:
        (…, H, T, D)
    """
    del dropout_p
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    mixed: Tensor = torch.softmax(_masked(scores, attn_mask), -1) @ value
    return mixed


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    **others: Any,  # noqa: ANN401
) -> tuple[Tensor, Tensor | None]:
    """``torch.nn.functional.multi_head_attention_forward``, what :class:`torch.nn.MultiheadAttention` calls.

    Args:
        query: (T, B, E)
        key: (S, B, E)
        value: (S, B, E)
        embed_dim_to_check: E.
        num_heads: H.
        in_proj_weight: (3 · E, E)
        in_proj_bias: (3 · E,)
        bias_k: Must be absent.
        bias_v: Must be absent.
        add_zero_attn: Must be false.
        dropout_p: Ignored: models are in evaluation mode.
        out_proj_weight: (E, E)
        out_proj_bias: (E,)
        training: Ignored likewise.
        key_padding_mask: (B, S), True or −∞ where there is nothing to see.
        need_weights: Whether to return attention weights.
        attn_mask: (T, S) or (B · H, T, S), True or −∞ where attention is not allowed.
        use_separate_proj_weight: Whether the three projections have a weight each.
        q_proj_weight: That of the queries.
        k_proj_weight: That of the keys.
        v_proj_weight: That of the values.
        **others: ``average_attn_weights`` and ``is_causal`` (the mask says so too); fixed keys must be absent.

    Returns:
        (T, B, E), and the attention weights where wanted.

    Raises:
        InvalidInputError: An option has no relevance rule.
    """
    del embed_dim_to_check, dropout_p, training
    extra = (bias_k, bias_v, others.get("static_k"), others.get("static_v"))
    if query.dim() != 3 or add_zero_attn or any(item is not None for item in extra):
        detail = (
            "nn.MultiheadAttention without a batch dimension, or with bias_kv, zero_attn or fixed keys, has no "
            "relevance rule; use another estimator"
        )
        raise InvalidInputError(Fault("/model", detail))
    weights = (
        (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else _thirds(in_proj_weight)
    )
    projected = (
        functional.linear(inputs, weight, bias)
        for inputs, weight, bias in zip((query, key, value), weights, _thirds(in_proj_bias), strict=True)
    )
    queries, keys, values = (
        item.reshape(*item.shape[:2], num_heads, -1).permute(1, 2, 0, 3) for item in projected
    )
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (B, H, T, S)
    if attn_mask is not None:
        scores = _hidden(scores, attn_mask if attn_mask.dim() == 2 else attn_mask.reshape(scores.shape))
    if key_padding_mask is not None:
        scores = _hidden(scores, key_padding_mask[:, None, None])
    attention = torch.softmax(scores, -1)
    mixed = (
        (attention @ values).transpose(1, 2).flatten(2)
    )  # (B, T, E), so that the rows of a sample are together
    made = functional.linear(mixed, out_proj_weight, out_proj_bias).transpose(0, 1)
    shown = attention.mean(1) if others.get("average_attn_weights", True) else attention
    return made, shown if need_weights else None


def _thirds(stacked: Tensor | None) -> Sequence[Any]:
    return (None, None, None) if stacked is None else stacked.chunk(3)


def _hidden(scores: Tensor, mask: Tensor) -> Tensor:
    # This function means by True what scaled_dot_product_attention means by False.
    return _masked(scores, ~mask if mask.dtype == torch.bool else mask)


#: Function name → the function that stands for it.
REWRITES: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        layer_norm,
        rms_norm,
        group_norm,
        normalize,
        scaled_dot_product_attention,
        multi_head_attention_forward,
    )
}
