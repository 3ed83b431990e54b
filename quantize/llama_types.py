"""Types of llama.cpp as formats: a plan may name them as ``llama-quantize`` does, in any case (``q8_0``, ``Q4_K``).

Types with one fp16 scale per 32 weights are our own formats by another name. The others round their scales as well, or
store minima, and are formats of their own (:mod:`quantize.ggml.types`). ik_llama.cpp has more types; of those, the
names and blocks are known here, and only its own tools round to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.formats import FORMATS, StorageFormat, parse_format
from quantize.ggml.types import TYPES

#: Types that are formats of ours.
TWINS = {
    "q4_0": "int4-g32", "q5_0": "int5-g32", "q8_0": "int8-g32", "f16": "fp16", "bf16": "bf16", "f32": "fp32",
}  # fmt: skip
#: Types that are formats of their own.
OWN = {name: FORMATS[name] for name in (*TYPES, "mxfp4") if name not in TWINS}
#: Types that only ik_llama.cpp has: bits of a code and weights of a block.
_FORK = {
    "iq1_bn": (1, 64), "iq2_bn": (2, 64), "iq1_kt": (1, 256), "iq2_kt": (2, 256), "iq3_kt": (3, 256),
    "iq4_kt": (4, 256), "iq2_k": (2, 256), "iq2_ks": (2, 256), "iq2_kl": (2, 256), "iq3_k": (3, 256),
    "iq3_ks": (3, 256), "iq4_k": (4, 256), "iq4_ks": (4, 256), "iq4_kss": (4, 256), "iq5_k": (5, 256),
    "iq5_ks": (5, 256), "iq6_k": (6, 256), "q6_0": (6, 32), "q8_kv": (8, 32), "q8_k": (8, 256),
}  # fmt: skip
FORK = {name: StorageFormat(name, bits, block_size=block) for name, (bits, block) in _FORK.items()}
#: Rows interleaved for the processor, as ik_llama.cpp writes some types.
_INTERLEAVED = re.compile(r"(.+)_r(?:4|8|16)")
#: Names of whole recipes of ``llama-quantize``, which are no types of a tensor.
_RECIPE = re.compile(r"(?:i?q\d_k|iq\d)_(?:xs|s|m|l|xl)|mxfp4_moe")


def type_named(name: str) -> StorageFormat | None:
    """A type of llama.cpp or ik_llama.cpp.

    Args:
        name: Its name, in any case.

    Returns:
        The format; None where no such type is known.

    Example:
        >>> type_named("Q4_K").stored_bytes((1, 256)), type_named("q8_0").name, type_named("int4")
        (144, 'int8-g32', None)
    """
    kind = name.lower()
    if kind in TWINS:
        return parse_format(TWINS[kind])
    if kind in OWN or kind in FORK:
        return OWN.get(kind) or FORK[kind]
    found = _INTERLEAVED.fullmatch(kind)
    plain = type_named(found[1]) if found else None
    if plain is None or plain.name in {"fp16", "fp32"}:
        return None
    return StorageFormat(
        kind, plain.bits, symmetric=plain.symmetric, group_size=plain.group_size,
        block_size=plain.block_size or plain.group_size or 1,
    )  # fmt: skip


def is_of_fork(fmt: StorageFormat) -> bool:
    """Whether only ik_llama.cpp has a type.

    Returns:
        True for such types.

    Example:
        >>> is_of_fork(type_named("iq4_ks")), is_of_fork(type_named("iq4_xs"))
        (True, False)
    """
    return fmt.block_size is not None and fmt.name not in OWN


def is_recipe(name: str) -> bool:
    """Whether a name is that of a recipe of ``llama-quantize`` for a whole model.

    Args:
        name: Any name, in any case.

    Returns:
        True for recipes.

    Example:
        >>> is_recipe("Q4_K_M"), is_recipe("q4_k")
        (True, False)
    """
    return _RECIPE.fullmatch(name.lower()) is not None


def type_name(fmt: StorageFormat) -> str:
    """Name of a format as llama.cpp has it.

    Returns:
        The name of the type.

    Example:
        >>> type_name(parse_format("int8-g32")), type_name(OWN["q4_k"])
        ('q8_0', 'q4_k')
    """
    return next((kind for kind, twin in TWINS.items() if twin == fmt.name), fmt.name)


def format_named(name: str) -> StorageFormat:
    """A format by our name for it, or by that of a type of llama.cpp.

    Args:
        name: As a plan has it.

    Returns:
        The format.

    Raises:
        InvalidInputError: There is no such format.

    Example:
        >>> format_named("int4-g64").name, format_named("TQ1_0").name
        ('int4-g64', 'tq1_0')
    """
    found = type_named(name)
    if found is not None:
        return found
    try:
        return parse_format(name)
    except InvalidInputError as error:
        others = ", ".join(other for other in (*TWINS, *OWN) if other not in FORMATS)
        detail = f"{error.faults[0].detail}; and the types of llama.cpp, {others}"
        if is_recipe(name):
            detail = (
                f"{name!r} is a recipe of llama-quantize for a whole model, not a type of one tensor; "
                f"name a type, as {', '.join(OWN)}"
            )
        raise InvalidInputError(Fault("/formats", detail)) from error


def formats_named(
    assignment: Mapping[str, str], known: Callable[[str], StorageFormat] = format_named
) -> dict[str, StorageFormat]:
    """Read the formats of all layers.

    Args:
        assignment: Layer → name of a format.
        known: Looks one name up.

    Returns:
        Layer → format.

    Raises:
        InvalidInputError: Some names are unknown; one fault for each such name, at the first layer that has it.
    """
    layers_of: dict[str, list[str]] = {}
    for layer, name in assignment.items():
        layers_of.setdefault(name, []).append(layer)
    formats: dict[str, StorageFormat] = {}
    faults = []
    for name, layers in layers_of.items():
        try:
            formats[name] = known(name)
        except InvalidInputError as error:
            more = f" (and of {len(layers) - 1} more layers)" if len(layers) > 1 else ""
            faults.append(Fault(pointer(("assignment", layers[0])), error.faults[0].detail + more))
    if faults:
        raise InvalidInputError(*faults)
    return {layer: formats[name] for layer, name in assignment.items()}
