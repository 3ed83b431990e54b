"""Plans for the tests of exports: names as they occur, formats as a target has them."""

from __future__ import annotations

from hypothesis import strategies as st

from quantize.exports import EXPORTS
from quantize.exports.documents import integer
from quantize.formats import StorageFormat

#: Targets whose files name every layer; the others state the most common format once.
SPELLED_OUT = ("torchao", "compressed-tensors", "llm-compressor", "auto-round", "onnxruntime", "nncf", "modelopt",
               "quanto", "quark", "litert")  # fmt: skip
TARGETS = tuple(EXPORTS)

_LLAMA = [
    f"model.layers.{block}.{part}"
    for block in (0, 1, 10, 11)
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                 "mlp.up_proj", "mlp.down_proj")
]  # fmt: skip
LLAMA = [*_LLAMA, "model.embed_tokens", "lm_head"]
#: Prefixes, suffixes and near misses of each other, and characters that mean something in patterns.
AWKWARD = ["up", "up.0", "a.up", "a.up.0", "a.up.01", "a_up", "a-up", "aXup", "blocks.1", "blocks.11", "q_proj",
           "k_proj", "experts.0.w1", "experts.0.w3"]  # fmt: skip
SPECIAL = ["a[0].up", "a*", "a+b", "a(b)", "a|b", "a{2}", "a$", "^a"]


def names_for(target: str) -> list[str]:
    """Names that a target can write."""
    if target == "llama.cpp":
        return LLAMA
    layers = [layer for layer in LLAMA if target != "gptqmodel" or layer != "model.embed_tokens"]
    return [*layers, *AWKWARD, *([] if target in {"auto-round", "onnxruntime"} else SPECIAL)]


def formats_of(target: str) -> list[str]:
    """Names of formats that a target can express."""
    mask = EXPORTS[target].mask
    found = [
        integer(bits, size, symmetric=symmetric).name
        for symmetric, side in ((True, mask.symmetric), (False, mask.asymmetric))
        for bits, sizes in side.items()
        for size in ((0, 7, 32, 64, 128) if sizes is None else sorted(sizes))
    ]
    return [*found, *(sorted(mask.named | {"fp16"})), *EXPORTS[target].formats]


ANY_FORMAT = st.one_of(
    st.sampled_from(["fp16", "bf16", "fp32", "fp8-e4m3", "mxfp8", "mxfp4", "int8-dynamic"]),
    st.builds(
        lambda bits, size, symmetric: integer(bits, size, symmetric=symmetric).name,
        st.integers(1, 8),
        st.sampled_from([0, 5, 16, 32, 64, 128, 4096]),
        st.booleans(),
    ),
)


def quantizes(plan: dict[str, str]) -> bool:
    """Whether a plan holds anything but floats."""
    return any(name not in {"fp16", "bf16", "fp32"} for name in plan.values())


def by_definition(
    rules: list[tuple[object, StorageFormat | None]], name: str, default: StorageFormat | None
) -> StorageFormat | None:
    """The slow twin of resolving: try one rule after the other."""
    for rule, found in rules:
        if rule.matches(name):  # type: ignore[attr-defined]
            return found
    return default
