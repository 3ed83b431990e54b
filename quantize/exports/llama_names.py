r"""Names of tensors in llama.cpp's files, for the families of models that it converts.

Experts of a block are one tensor there (``blk.0.ffn_up_exps``), and so are several layers of a checkpoint; what a
checkpoint stores as one (``experts.gate_up_proj``, MLA's ``kv_b_proj``) may become several. Towers for pictures and
sound go into a file of their own (``mmproj``).

Source: ``gguf.tensor_mapping`` (gguf 0.19), llama.cpp's ``convert_hf_to_gguf.py``.
"""

from __future__ import annotations

import re

from quantize.exports.names import anchored

#: Part of a module path after its block → part of a tensor name.
_PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.out_proj": "attn_output", "self_attn.dense": "attn_output",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.query_key_value": "attn_qkv",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_b_proj": "attn_kv_b",
    "attention.wq": "attn_q", "attention.wk": "attn_k", "attention.wv": "attn_v", "attention.wo": "attn_output",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.q_lin": "attn_q", "attention.k_lin": "attn_k", "attention.v_lin": "attn_v",
    "attention.out_lin": "attn_output", "attention.output.dense": "attn_output",
    "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
    "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "attn.Wqkv": "attn_qkv", "attn.Wo": "attn_output",
    "attn.out_proj": "attn_output", "attn.q_proj": "attn_q", "attn.k_proj": "attn_k", "attn.v_proj": "attn_v",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down", "mlp.Wi": "ffn_up", "mlp.Wo": "ffn_down",
    "mlp.fc_in": "ffn_up", "mlp.fc_out": "ffn_down", "ffn.lin1": "ffn_up", "ffn.lin2": "ffn_down",
    "ffn.up_proj": "ffn_up", "ffn.down_proj": "ffn_down",
    "feed_forward.w1": "ffn_gate", "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up",
    "feed_forward.gate_proj": "ffn_gate", "feed_forward.up_proj": "ffn_up", "feed_forward.down_proj": "ffn_down",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.gate.wg": "ffn_gate_inp", "mlp.router": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "block_sparse_moe.router.layer": "ffn_gate_inp", "mlp.gate": "ffn_gate_inp", "feed_forward.router": "ffn_gate_inp",
    "feed_forward.gate": "ffn_gate_inp", "ffn.router.layer": "ffn_gate_inp",
    "mlp.router.layer": "ffn_gate_inp", "mlp.router.gate": "ffn_gate_inp", "moe.gate": "ffn_gate_inp",
    "mixer.gate": "ffn_gate_inp", "router.proj": "ffn_gate_inp",
    "attn.attention.q_proj": "attn_q", "attn.attention.k_proj": "attn_k", "attn.attention.v_proj": "attn_v",
    "attn.attention.out_proj": "attn_output", "mlp.c_fc_0": "ffn_gate", "mlp.c_fc_1": "ffn_up",
    "residual_mlp.w1": "ffn_gate", "residual_mlp.w2": "ffn_down", "residual_mlp.w3": "ffn_up",
    "linear_attn.in_proj_qkv": "attn_qkv", "linear_attn.in_proj_z": "attn_gate", "linear_attn.out_proj": "ssm_out",
    "linear_attn.in_proj_a": "ssm_alpha", "linear_attn.in_proj_b": "ssm_beta", "linear_attn.in_proj_ba": "ssm_ba",
    "linear_attn.in_proj_qkvz": "ssm_in", "mixer.in_proj": "ssm_in",
    "mamba.in_proj": "ssm_in", "mamba.out_proj": "ssm_out", "mixer.up_proj": "ffn_up", "mixer.down_proj": "ffn_down",
    "mixer.conv1d": "ssm_conv1d", "mamba.conv1d": "ssm_conv1d", "linear_attn.conv1d": "ssm_conv1d",
    "mamba.dt_proj": "ssm_dt", "mamba.x_proj": "ssm_x", "mixer.dt_proj": "ssm_dt", "mixer.x_proj": "ssm_x",
    "mixer.q_proj": "attn_q", "mixer.k_proj": "attn_k", "mixer.v_proj": "attn_v", "mixer.o_proj": "attn_output",
    "ffn.experts.mlp.w1": "ffn_gate_exps", "ffn.experts.mlp.v1": "ffn_up_exps", "ffn.experts.mlp.w2": "ffn_down_exps",
    "mlp.experts.mlp.w1": "ffn_up_exps", "mlp.experts.mlp.w2": "ffn_down_exps",
    "moe.gate_proj": "ffn_gate_exps", "moe.up_proj": "ffn_up_exps", "moe.down_proj": "ffn_down_exps",
    "block_sparse_moe.input_linear": "ffn_gate_up_exps", "block_sparse_moe.output_linear": "ffn_down_exps",
}  # fmt: skip
_WHOLE = {
    "model.embed_tokens": "token_embd", "language_model.embed_tokens": "token_embd", "embed_tokens": "token_embd",
    "lm_head": "output", "embed_out": "output", "embeddings.word_embeddings": "token_embd", "wte": "token_embd",
    "word_embeddings": "token_embd", "embed_in": "token_embd", "tok_embeddings": "token_embd",
}  # fmt: skip
#: A projection of experts, alone or stacked, and of the experts that all tokens go through.
_EXPERTS = re.compile(r"(?:\w+\.)?experts\.(?:\d+\.)?(\w+)")
_SHARED = re.compile(r"(?:\w+\.)?(?:shared_experts?|shared_mlp|share_expert)\.(\w+)")
_PROJECTIONS = {
    "gate_proj": "gate", "w1": "gate", "gate": "gate", "up_proj": "up", "w3": "up", "v1": "up", "up": "up",
    "down_proj": "down", "w2": "down", "down": "down", "gate_up_proj": "gate_up",
}  # fmt: skip
_BLOCK = re.compile(r"(?:.*\.)?(?:layers?|h|blocks)\.(\d+)\.(.+)")
_TENSOR = re.compile(r"blk\.\d+\.\w+|token_embd|output")
#: Tensors that the conversion may split: each of these names may be the file's.
_SPLIT = {
    "ffn_gate_up_exps": "ffn_(?:gate_up|gate|up)_exps",
    "ffn_gate_up_shexp": "ffn_(?:gate_up|gate|up)_shexp",
    "attn_kv_b": "attn_(?:kv_b|k_b|v_b)",
}
_ELSEWHERE = re.compile(
    r"(?:^|\.)(?:vision\w*|visual|vpm|vit|audio\w*|conformer|image\w*|\w*projector|qformer|embed_vision|embed_audio)\."
)
_ROUTER = re.compile(r"blk\.\d+\.ffn_gate_inp\.weight")
_STACK = re.compile(r"blk\.\d+\.\w+_(?:ch)?exps\.weight")


def own_name(layer: str) -> str | None:
    """Name of a layer's tensor.

    Args:
        layer: Module path, or a tensor name without ``.weight``.

    Returns:
        The name in the file, which experts of a block share; None where it is not known.

    Example:
        >>> own_name("model.layers.3.mlp.down_proj"), own_name("model.layers.3.mlp.experts.7.up_proj")
        ('blk.3.ffn_down.weight', 'blk.3.ffn_up_exps.weight')
    """
    if _TENSOR.fullmatch(layer):
        return f"{layer}.weight"
    if _ELSEWHERE.search(layer):
        return None
    if found := _BLOCK.fullmatch(layer):
        part = _part(found[2])
        return f"blk.{found[1]}.{part}.weight" if part else None
    ends = (tensor for end, tensor in _WHOLE.items() if layer == end or layer.endswith(f".{end}"))
    tensor = next(ends, None)
    return None if tensor is None else f"{tensor}.weight"


def is_elsewhere(layer: str) -> str | None:
    """Why a layer is not in the file of the language model, if it is not.

    Args:
        layer: Module path.

    Returns:
        The reason; None for layers of the language model.

    Example:
        >>> is_elsewhere("model.visual.blocks.0.attn.qkv"), is_elsewhere("lm_head")
        ('towers for pictures and sound are in a file of their own (mmproj)', None)
    """
    return (
        "towers for pictures and sound are in a file of their own (mmproj)"
        if _ELSEWHERE.search(layer)
        else None
    )


def is_stack(tensor: str) -> bool:
    """Whether a tensor holds all experts of a block.

    Returns:
        True where several layers are one tensor.

    Example:
        >>> is_stack("blk.0.ffn_up_exps.weight"), is_stack("blk.0.ffn_up_shexp.weight")
        (True, False)
    """
    return _STACK.fullmatch(tensor) is not None


def is_router(tensor: str) -> bool:
    """Return whether a tensor chooses experts, which ``llama-quantize`` always leaves as it is."""
    return _ROUTER.fullmatch(tensor) is not None


def split_names(tensor: str) -> tuple[str, ...]:
    """Names of the tensors that the conversion may make of one.

    Returns:
        The others; none for most tensors.

    Example:
        >>> split_names("blk.0.ffn_gate_up_exps.weight")
        ('blk.0.ffn_gate_exps.weight', 'blk.0.ffn_up_exps.weight')
    """
    head, _, middle = tensor.removesuffix(".weight").rpartition(".")
    before, inner = _SPLIT.get(middle, "").partition("(?:")[::2]
    parts, after = inner.partition(")")[::2]
    names = [f"{head}.{before}{part}{after}.weight" for part in parts.split("|") if part]
    return tuple(name for name in names if name != tensor)


def pattern_of(tensor: str) -> str:
    r"""The expression for a tensor, or for those that it may be split into.

    Returns:
        An anchored expression.

    Example:
        >>> print(pattern_of("blk.0.attn_q.weight"), pattern_of("blk.0.ffn_gate_up_exps.weight"))
        ^blk\.0\.attn_q\.weight$ ^blk\.0\.ffn_(?:gate_up|gate|up)_exps\.weight$
    """
    head, _, middle = tensor.removesuffix(".weight").rpartition(".")
    if middle not in _SPLIT:
        return anchored(tensor)
    return rf"{anchored(head + '.')[:-1]}{_SPLIT[middle]}\.weight$"


def _part(path: str) -> str | None:
    if path in _PARTS:
        return _PARTS[path]
    for pattern, ending in ((_EXPERTS, "exps"), (_SHARED, "shexp")):
        found = pattern.fullmatch(path)
        if found and found[1] in _PROJECTIONS:
            return f"ffn_{_PROJECTIONS[found[1]]}_{ending}"
    return None
