"""exllamav2: ``measurement.json``, some twenty settings for each attention and each MLP.

A row is a whole attention or MLP, for they were measured as one; a column is a setting of its projections, which
attention and MLP do not share. The cost is ``1 − accuracy``: the mean relative Frobenius error of the module's output.

Source: exllamav2, ``exllamav2/conversion/measure.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator import Format as ProfileFormat
from quantize.exports.documents import entries, table
from quantize.imports.files import number, only, read_document
from quantize.imports.scores import Pair, Request, Scores, whole_bytes


def scores(request: Request) -> Scores:
    """Read a measurement.

    Args:
        request: One ``measurement.json``.

    Returns:
        Its scores.

    Raises:
        InvalidInputError: It is no measurement.
    """
    path = only(request.paths, "exllamav2")
    document = table(read_document(path), path.name)
    measured = table(document.get("measurement"), path.name, "measurement")
    formats: dict[str, ProfileFormat] = {}
    names: dict[str, str] = {}
    costs: dict[Pair, float] = {}
    sizes: dict[Pair, float] = {}
    for module, options in measured.items():
        for index, item in enumerate(entries(options, path.name, "measurement", module)):
            where = (path.name, "measurement", module, index)
            option = table(item, *where)
            settings = {key: value for key, value in option.items() if isinstance(value, dict)}
            kind = module.rpartition(".")[2]
            name = names.setdefault(
                json.dumps([kind, settings], sort_keys=True), f"{kind}-{_bits(settings, *where):.3f}"
            )
            if (module, name) in costs:
                name = names[json.dumps([kind, settings], sort_keys=True)] = f"{name}-{index}"
            formats.setdefault(name, ProfileFormat(weight_bits=_bits(settings, *where)))
            costs[module, name] = 1 - number(option.get("accuracy"), *where, "accuracy")
            sizes[module, name] = whole_bytes(number(option.get("total_bits"), *where, "total_bits"))
    meaning = "1 − accuracy: mean relative Frobenius error of the module's output, exllamav2"
    layers: dict[str, int | None] = dict.fromkeys(measured)
    return Scores("output_error", meaning, formats, layers, costs, sizes, source="exllamav2 measurement")


def _bits(settings: Mapping[str, Any], *where: str | int) -> float:
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
            Fault(f"/{where[0]}", f"{where[2]!r}: expected bits of projections, got {dict(settings)}")
        )
    return sum(means) / len(means)
