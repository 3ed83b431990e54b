"""exllamav2: ``measurement.json``, some twenty settings for each attention and each MLP.

A row is a whole attention or MLP, for they were measured as one; a column is a setting of its projections, which
attention and MLP do not share. The cost is ``1 − accuracy``: the mean relative Frobenius error of the module's output.
Where attention and MLP of a block run side by side (Command-R), both are below ``parallel_decoder``.

Source: exllamav2, ``exllamav2/conversion/measure.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from allocator import Fault, InvalidInputError
from allocator import Format as ProfileFormat
from quantize.checkpoints.matrices import stored_matrices
from quantize.exports.documents import entries, table
from quantize.imports.files import amount, number, only, read_document
from quantize.imports.members import count, members_of, module_layers
from quantize.imports.scores import Pair, Request, Scores, some, whole_bytes

_PARALLEL = "parallel_decoder"


def scores(request: Request) -> Scores:
    """Read a measurement.

    Args:
        request: One ``measurement.json``; with the model, rows have their numbers of weights.

    Returns:
        Its scores.
    """
    path = only(request.paths, "exllamav2")
    document = table(read_document(path), path.name)
    measured = table(document.get("measurement"), path.name, "measurement")
    formats: dict[str, ProfileFormat] = {}
    names: dict[str, str] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    projections: dict[str, list[str]] = {}
    for module, options, place in _modules(measured, path.name):
        projections[module] = []
        for index, item in enumerate(entries(options, *place)):
            where = (*place, index)
            option = table(item, *where)
            settings = {key: value for key, value in option.items() if isinstance(value, dict)}
            projections[module] = list(settings)
            kind = module.rpartition(".")[2]
            name = names.setdefault(
                json.dumps([kind, settings], sort_keys=True), f"{kind}-{_bits(settings, module, *where):.3f}"
            )
            if (module, name) in costs:
                name = names[json.dumps([kind, settings], sort_keys=True)] = f"{name}-{index}"
            formats.setdefault(name, ProfileFormat(weight_bits=_bits(settings, module, *where)))
            costs[module, name] = 1 - number(option.get("accuracy"), *where, "accuracy")
            sizes[module, name] = whole_bytes(amount(option.get("total_bits"), *where, "total_bits"))
    meaning = "1 − accuracy: mean relative Frobenius error of the module's output, exllamav2"
    layers, members = _sizes(projections, request.model)
    empty = [module for module in layers if module not in {row for row, _ in costs}]
    return Scores(
        "output_error",
        meaning,
        formats,
        {module: number for module, number in layers.items() if module not in empty},
        costs,
        sizes,
        source="exllamav2 measurement",
        notes={"/layers": f"left out, for nothing was measured of them: {some(empty)}"} if empty else {},
        members=members,
    )


def _modules(measured: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any, tuple[str | int, ...]]]:
    for module, options in measured.items():
        where = (name, "measurement", module)
        if module.rpartition(".")[2] == _PARALLEL and isinstance(options, dict):
            for part, inner in options.items():
                yield f"{module}.{part}", inner, (*where, part)
        else:
            yield module, options, where


def _sizes(
    projections: Mapping[str, list[str]], model: Path | None
) -> tuple[dict[str, int | None], dict[str, list[str]]]:
    if model is None:
        return dict.fromkeys(projections), {}
    members = members_of(stored_matrices(model))
    layers = {}
    for module, parts in projections.items():
        block, parallel, _ = module.partition(f".{_PARALLEL}.")
        layers[module] = module_layers(block if parallel else module, parts, members)
    counts = {
        module: count(members.shapes[layer] for layer in found) or None for module, found in layers.items()
    }
    return counts, layers


def _bits(settings: Mapping[str, Any], module: str, *where: str | int) -> float:
    # Projections have different sizes that the file does not hold: a plain mean tells the columns apart.
    means = []
    for name, value in settings.items():
        projection = table(value, *where, name)
        bits = entries(projection.get("bits"), *where, name, "bits")
        shares = entries(projection.get("bits_prop"), *where, name, "bits_prop")
        pairs = zip(bits, shares, strict=False)
        means.append(sum(number(b, *where, name) * number(share, *where, name) for b, share in pairs))
    if not means or min(means) <= 0:
        raise InvalidInputError(
            Fault(f"/{where[0]}", f"{module!r}: expected bits of projections, got {dict(settings)}")
        )
    return sum(means) / len(means)
