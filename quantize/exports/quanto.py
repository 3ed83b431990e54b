"""optimum-quanto: ``quantization_map.json`` for ``requantize``.

8 bits, integers or floats, have one scale per row; 2 and 4 bits have a scale and a shift per group of 128, or the
largest of 96, 64 and 32 that divides the row.

Source: optimum-quanto 0.2.7, ``optimum/quanto/quantize.py``, ``optimum/quanto/nn/qmodule.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import integer, read_json, table, written
from quantize.exports.rules import Rules, exact
from quantize.exports.target import ROW, ExportTarget, Mask, Sheet, sized, whole_groups
from quantize.formats import StorageFormat, parse_format

_GROUP = 128
_SMALLER = (96, 64, 32)
_FLOAT8 = "qfloat8_e4m3fn"
_FLOATS = {
    "qfloat8": "fp8-e4m3",
    _FLOAT8: "fp8-e4m3",
    "qfloat8_e4m3fnuz": "fp8_e4m3",
    "qfloat8_e5m2": "fp8_e5m2",
}


def _render(sheet: Sheet) -> dict[str, str]:
    layers = {
        name: {"weights": _FLOAT8 if fmt.floating else f"qint{fmt.bits}", "activations": "none"}
        for name, fmt in sheet.formats.items()
    }
    alone = {name: {"weights": "none", "activations": "none"} for name in sheet.alone}
    return {"quantization_map.json": written(layers | alone)}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    rules, notes = [], []
    for layer, value in table(document, name).items():
        settings = table(value, name, layer)
        rules.append(exact(layer, _format(settings.get("weights"), name, layer, "weights")))
        if settings.get("activations", "none") != "none":
            notes.append(f"{layer} quantizes activations as well, which a plan of weights does not hold")
    return Rules(tuple(rules), notes=tuple(notes))


def _format(kind: object, *where: str) -> StorageFormat | None:
    if kind is None or kind == "none":
        return None
    if kind == "qint8":
        return integer(8, None, symmetric=True)
    if str(kind) in {"qint4", "qint2"}:
        return integer(int(str(kind)[-1]), _GROUP, symmetric=False)
    if str(kind) in _FLOATS:
        name = _FLOATS[str(kind)]
        return parse_format(name) if name == "fp8-e4m3" else StorageFormat(name, 8, floating=True)
    known = ", ".join(["none", "qint8", "qint4", "qint2", *_FLOATS])
    raise InvalidInputError(Fault(pointer(where), f"unknown type {kind!r}; known: {known}"))


def _falls_back(fmt: StorageFormat, row: int) -> StorageFormat | None:
    size = next((size for size in _SMALLER if row % size == 0), None)
    return None if size is None else integer(fmt.bits, size, symmetric=fmt.symmetric)


TARGET = ExportTarget(
    mask=Mask(
        symmetric={8: frozenset({ROW})}, asymmetric=sized((2, 4), _GROUP), named=frozenset({"fp8-e4m3"})
    ),
    render=_render,
    parse=_parse,
    files=("quantization_map.json",),
    whole_blocks=whole_groups,
    falls_back=_falls_back,
    advice="requantize(model, state_dict, json.load(file)), or quantize(model, weights=…, include=[layer]) per layer",
)
