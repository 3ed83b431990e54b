"""auto-round: the cache of AutoScheme, one file per scheme with the scores of all layers.

A score is the first-order estimate of the change of the loss, ``Σ|g·(W − Q(W))| + Σ|g·(X − Q(X))|``; bits are those
that auto-round counts, with or without scales as it was told.

Source: auto-round 0.16, ``auto_scheme/delta_loss.py`` (``_save_autoscheme_scores``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator import Format as ProfileFormat
from quantize.exports.documents import entries, integer, table, whole, width
from quantize.imports.files import amount, number, read_document
from quantize.imports.scores import Pair, Request, Scores, whole_bytes


def scores(request: Request) -> Scores:
    """Read a cache.

    Args:
        request: The files of the schemes to choose from.

    Returns:
        Their scores, one column per file.

    Raises:
        InvalidInputError: A file is no cache, or two hold the same scheme.
    """
    formats: dict[str, ProfileFormat] = {}
    layers: dict[str, int | None] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    for path in request.paths:
        document = table(read_document(path), path.name)
        if document.get("version") != 1:
            detail = f"expected version 1 of auto-round's cache, got {document.get('version')!r}"
            raise InvalidInputError(Fault(f"/{path.name}/version", detail))
        name, column = _format(table(document.get("scheme"), path.name, "scheme"), path.name, "scheme")
        if name in formats:
            raise InvalidInputError(Fault(f"/{path.name}", f"another file holds scores of {name!r} too"))
        formats[name] = column
        for layer, value in table(document.get("layer_scores"), path.name, "layer_scores").items():
            where = (path.name, "layer_scores", layer)
            pair = entries(value, *where)
            if len(pair) != 2:
                raise InvalidInputError(
                    Fault(f"/{path.name}", f"{layer!r}: expected bits and loss, got {pair}")
                )
            layers[layer] = None
            sizes[layer, name] = whole_bytes(amount(pair[0], *where, 0))
            costs[layer, name] = number(pair[1], *where, 1)
    meaning = "auto-round's DeltaLoss: first-order estimate of the change of the loss"
    return Scores("delta_loss", meaning, formats, layers, costs, sizes, source="auto-round cache, version 1")


def _format(scheme: Mapping[str, Any], *where: str) -> tuple[str, ProfileFormat]:
    bits = width(scheme, "bits", *where)
    size = whole(scheme, "group_size", *where, default=-1)
    activations = whole(scheme, "act_bits", *where, default=16)
    kind = str(scheme.get("data_type", "int"))
    if bits >= 16:
        name = "fp32" if bits == 32 else "fp16"
    elif kind.startswith("int"):
        name = integer(bits, size, symmetric=scheme.get("sym", True) is not False).name
    else:
        name = f"{kind}{bits}" + (f"-g{size}" if size > 0 else "")
    # Activations are part of what was scored, so they are part of the name.
    name += f"-a{activations}" if activations < 16 else ""
    return name, ProfileFormat(
        weight_bits=bits, group_size=size if size > 0 else None, activation_bits=activations
    )
