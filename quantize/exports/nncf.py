"""NNCF: a list of ``nncf.compress_weights`` passes, for it has no configuration by layer.

Each pass has one mode and group size and ignores the nodes that the plan gives others; nodes that a pass has compressed
are no longer floating point and are passed over by the next. 3 bits come last: NNCF does not read a graph that has
them, so that a second such pass, with another group size, fails. Names are those of the graph, all spelt out: a pattern
for all but a few would also match the constants of those few, which a pass ignores as well.

Source: nncf 3.4, ``quantization/quantize_model.py``, ``scopes.py``, ``common/scopes.py`` (patterns are searched for).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from allocator import Fault, InvalidInputError
from allocator.contract.errors import pointer
from quantize.exports.documents import entries, integer, named_float, read_json, table, texts, whole, written
from quantize.exports.names import escaped
from quantize.exports.rules import Rule, Rules, exact, expression
from quantize.exports.target import ROW, ExportTarget, Mask, Sheet, any_size, whole_groups
from quantize.formats import StorageFormat

_FLOATS = {"fp8-e4m3": "fp8_e4m3", "mxfp8": "mxfp8_e4m3", "mxfp4": "mxfp4"}
_LAST = 3
_MODE = re.compile(r"int([2348])_(a?sym)")


def _render(sheet: Sheet) -> dict[str, str]:
    passes = []
    every = [*sheet.formats, *sheet.alone]
    for kind in sorted(dict.fromkeys(sheet.formats.values()), key=lambda kind: kind.bits == _LAST):
        integers = f"int{kind.bits}_{'sym' if kind.symmetric else 'asym'}"
        settings: dict[str, Any] = {"mode": _FLOATS.get(kind.name, integers)}
        if kind.bits != 8 or kind.floating:
            settings |= {"group_size": kind.group_size or -1, "ratio": 1.0, "all_layers": True}
        others = [name for name in every if sheet.formats.get(name) != kind]
        nodes = [name for name, fmt in sheet.formats.items() if fmt == kind]
        passes.append({**settings, "ignored_scope": {"names": others, "validate": False}, "nodes": nodes})
    return {"compress_weights.json": written({"passes": passes})}


def _parse(files: Mapping[str, str]) -> Rules:
    document, name = read_json(files)
    rules: list[Rule] = []
    for index, item in enumerate(entries(table(document, name).get("passes"), name, "passes")):
        where = (name, "passes", index)
        settings = table(item, *where)
        fmt = _format(settings, *where)
        if "nodes" in settings:
            rules += [exact(node, fmt) for node in texts(settings["nodes"], *where, "nodes")]
        else:
            rules.append(_everything_but(settings, fmt, *where))
    return Rules(tuple(rules))


def _everything_but(settings: Mapping[str, Any], fmt: StorageFormat, *where: str | int) -> Rule:
    scope = table(settings.get("ignored_scope") or {}, *where, "ignored_scope")
    names = texts(scope.get("names"), *where, "names")
    ignored = [*(f"^{escaped(node)}$" for node in names), *texts(scope.get("patterns"), *where, "patterns")]
    never = "".join(f"(?!.*(?:{pattern}))" for pattern in ignored)
    return expression(f"^{never}.*", fmt, "fullmatch", pointer(where), f"all but {ignored}")


def _format(settings: Mapping[str, Any], *where: str | int) -> StorageFormat:
    mode = str(settings.get("mode", "int8_asym")).lower()
    found = _MODE.fullmatch(mode)
    group = whole(settings, "group_size", *where, default=-1 if mode.startswith("int8") else 128)
    if found:
        return integer(int(found[1]), group, symmetric=found[2] == "sym")
    floating = {"nf4": 4, "cb4": 4, "mxfp4": 4, "fp4": 4, "nvfp4": 4, "fp8_e4m3": 8, "mxfp8_e4m3": 8}
    if mode not in floating:
        known = f"int8, int4, int3 and int2 with _sym or _asym, {', '.join(floating)}"
        raise InvalidInputError(Fault(pointer((*where, "mode")), f"unknown mode {mode!r}; known: {known}"))
    bits = floating[mode]
    ours = named_float(_FLOATS, mode, bits, group)
    return ours or StorageFormat(mode, bits, floating=True, group_size=group if group > 0 else None)


TARGET = ExportTarget(
    mask=Mask(
        symmetric={8: frozenset({ROW}), **any_size(4, 3, 2)},
        asymmetric={8: frozenset({ROW}), 4: None},
        named=frozenset(_FLOATS),
    ),
    render=_render,
    parse=_parse,
    files=("compress_weights.json",),
    whole_blocks=whole_groups,
    advice="run nncf.compress_weights once per pass with all its settings but `nodes`, ignored_scope as "
    "nncf.IgnoredScope(**…); nodes outside the plan are compressed by the first pass unless `others` names them",
)
