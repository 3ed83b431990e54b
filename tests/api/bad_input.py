"""Input that cannot be used, once: Python, HTTP, the client and the command line are all shown this table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from tests.api.helpers import tiny

Transport = Literal["python", "http", "client", "cli"]


@dataclass(frozen=True)
class Case:
    """One input and what has to be said about it.

    Attributes:
        name: Read as "bitalloc refuses ...".
        pointer: Into the profile or into the fields.
        words: Part of the message.
        profile: The profile.
        fields: The fields of the request.
        about: What the pointer points into; over HTTP the profile is the member ``profile`` of the request.
        on_cli: False where no option can say it.
    """

    name: str
    pointer: str
    words: str
    profile: dict[str, Any] = field(default_factory=tiny)
    fields: dict[str, Any] = field(default_factory=dict)
    about: Literal["profile", "fields"] = "profile"
    on_cli: bool = True

    @property
    def pointer_in_request(self) -> str:
        """The pointer into the body of an HTTP request."""
        return f"/profile{self.pointer}" if self.about == "profile" else self.pointer


def params(transport: Transport) -> list[Any]:
    """The table, for parametrized tests; the client and the command see every fifth case, for all go one way."""
    cases = [case for case in CASES if transport != "cli" or case.on_cli]
    shown = cases if transport in {"python", "http"} else cases[::5]
    return [pytest.param(case, id=case.name) for case in shown]


def _layers(*layers: dict[str, Any]) -> dict[str, Any]:
    return tiny(layers=list(layers))


def _kl(values: Any, **more: Any) -> dict[str, Any]:
    return tiny(costs={"kl": {"values": values, **more}})


def _bytes(values: Any, **more: Any) -> dict[str, Any]:
    return tiny(resources={"weight_bytes": {"values": values, "unit": "byte", **more}})


def _request(name: str, pointer: str, words: str, **more: Any) -> Case:
    return Case(name, pointer, words, about="fields", **more)


_UP, _DOWN = {"name": "up", "parameters": 4096}, {"name": "down", "parameters": 4096}
_FOUR, _EIGHT = {"weight_bits": 4}, {"weight_bits": 8}
_GOOD_KL = [[0.031, 0.0004], [0.012, 0.0002]]
_GOOD_BYTES = [[2176, 4224], [2176, 4224]]
_TWO_COSTS = tiny(costs={"kl": {"values": _GOOD_KL}, "sqnr": {"values": _GOOD_KL, "better": "higher"}})
_WITH_PEAK = tiny(resources={"peak": {"values": _GOOD_BYTES, "unit": "byte", "combine": "max"}})
_NO_COMMON = tiny(
    layers=[_UP | {"unit": "block"}, _DOWN | {"unit": "block"}],
    costs={"kl": {"values": [[0.1, None], [None, 0.1]]}},
)


_SHAPE = [
    Case(
        "a table with a row too few",
        "/costs/kl/values",
        "expected 2 rows, one per layer, got 1",
        _kl(_GOOD_KL[:1]),
    ),
    Case(
        "a row with a value too few",
        "/resources/weight_bytes/values/1",
        "expected 2 values, one per format, got 1",
        _bytes([[2176, 4224], [2176]]),
    ),
    Case(
        "standard errors of another shape",
        "/costs/kl/stderr",
        "expected 2 rows, one per layer, got 3",
        _kl(_GOOD_KL, stderr=[[0.1, 0.1]] * 3),
    ),
    Case("a table that is not nested", "/costs/kl/values/0", "should be a valid", _kl([0.1, [0.1, 0.2]])),
    Case("no layers", "/layers", "at least 1 item", tiny(layers=[])),
    Case("no tables", "", "at least one table in costs or resources", tiny(costs={}, resources={})),
    Case(
        "the same layer twice",
        "/layers",
        "must be unique, repeated: 'up'",
        _layers(_UP, _UP),
    ),
    Case(
        "a cost and a resource of one name",
        "",
        "share the name 'kl'",
        tiny(resources={"kl": {"values": _GOOD_BYTES}}),
    ),
    Case("a layer without a name", "/layers/1/name", "Field required", _layers(_UP, {"parameters": 1})),
    Case("an empty name", "/layers/1/name", "at least 1 character", _layers(_UP, {"name": ""})),
    Case("an endless name", "/layers/0/name", "at most 512 char", _layers({"name": "x" * 513}, _DOWN)),
    Case("a fusion that is no object", "/fusions/0", "Input should be a", tiny(fusions=["qkv"])),
    Case(
        "a fusion that overlaps itself",
        "/fusions/0/layers",
        "a fusion cannot hold a layer twice",
        tiny(fusions=[{"name": "pair", "layers": ["up", "up"], "resources": {"weight_bytes": [1, 2]}}]),
    ),
    Case(
        "a fusion of an unknown layer",
        "/fusions/0/layers/1",
        "unknown layer 'dwon'; did you mean 'down'",
        tiny(fusions=[{"name": "pair", "layers": ["up", "dwon"], "resources": {"weight_bytes": [1, 2]}}]),
    ),
    Case(
        "a fusion with a value too few",
        "/fusions/0/resources/weight_bytes",
        "expected 2 values, one per format, got 1",
        tiny(fusions=[{"name": "pair", "layers": ["up", "down"], "resources": {"weight_bytes": [1]}}]),
    ),
    Case("a newer schema", "/schema_version", "Input should be 1", tiny(schema_version=2)),
]

_UNKNOWN_FIELDS = [
    Case("an unknown field", "/wieghts", "unknown field 'wieghts'", tiny(wieghts=1)),
    Case(
        "an unknown field of a format whose name has a slash",
        "/formats/int4~1g64/bits",
        "unknown field 'bits'",
        tiny(formats={"int4/g64": {**_FOUR, "bits": 4}, "int8": _EIGHT}),
    ),
    _request(
        "an unknown field of the request",
        "/budget",
        "unknown field 'budget'",
        fields={"budget": {"kl": 1}},
        on_cli=False,
    ),
]

_NUMBERS = [
    Case(
        "a cost that is not a number",
        "/costs/kl/values/0/1",
        "finite number",
        _kl([[0.1, math.nan], [0.1, 0.2]]),
    ),
    Case(
        "a negative size",
        "/resources/weight_bytes/values/1/0",
        "greater than or equal to 0",
        _bytes([[2176, 4224], [-2176, 4224]]),
    ),
    Case(
        "a negative number of parameters",
        "/layers/0/parameters",
        "greater than or equal to 0",
        _layers({"name": "up", "parameters": -1}, _DOWN),
    ),
    Case(
        "half a parameter",
        "/layers/0/parameters",
        "valid integer",
        _layers({"name": "up", "parameters": 0.5}, _DOWN),
    ),
    Case(
        "a text in a table",
        "/costs/kl/values/0/0",
        "valid number (got '0.031')",
        _kl([["0.031", 0.1], [0.1, 0.1]]),
    ),
    Case(
        "a format of no bits",
        "/formats/int4/weight_bits",
        "greater than 0",
        tiny(formats={"int4": {"weight_bits": 0}, "int8": _EIGHT}),
    ),
    Case("an unknown direction", "/costs/kl/better", "'lower' or 'higher'", _kl(_GOOD_KL, better="down")),
]

_OPTIONS = [
    Case(
        "a unit whose layers share no format",
        "/layers/0/unit",
        "the layers of unit 'block' share no format: 'up' may have int4-g64; 'down' may have int8-g64",
        _NO_COMMON,
    ),
    Case(
        "a layer that no table gives a format",
        "/layers/1",
        "'down' has no format left: nulls in the tables leave none",
        _kl([[0.1, 0.2], [None, None]]),
    ),
    Case(
        "a pin outside the allowed formats",
        "/layers/0",
        "'up' has no format left: pin, allow and forbid together leave none",
        fields={"pin": {"up": "int4-g64"}, "allow": {"*": ["int8-g64"]}},
    ),
    Case(
        "a layer with every format forbidden",
        "/layers/1",
        "'down' has no format left",
        fields={"forbid": {"down": ["int4-g64", "int8-g64"]}},
    ),
    _request(
        "pins that contradict each other",
        "/pin/up",
        "pins 'up' to 'int8-g64', but '*' pins it to 'int4-g64'",
        fields={"pin": {"*": "int4-g64", "up": "int8-g64"}},
    ),
    _request(
        "a pin to an unknown format",
        "/pin/up",
        "unknown format 'int4-g46'; did you mean 'int4-g64'",
        fields={"pin": {"up": "int4-g46"}},
    ),
    _request(
        "an unknown format to allow",
        "/allow/up",
        "unknown format 'int5'",
        fields={"allow": {"up": ["int8-g64", "int5"]}},
    ),
    _request(
        "an unknown format to forbid",
        "/forbid/*",
        "unknown format 'int5'",
        fields={"forbid": {"*": ["int5"]}},
    ),
    _request(
        "a pin of an unknown layer",
        "/pin/upp",
        "unknown layer or glob 'upp'; did you mean 'up'",
        fields={"pin": {"upp": "int4-g64"}},
    ),
    _request(
        "a glob that means no layer, with a slash",
        "/pin/block~1*",
        "unknown layer or glob 'block/*'",
        fields={"pin": {"block/*": "int4-g64"}},
    ),
]

_REQUESTS = [
    _request(
        "an unknown objective",
        "/objective",
        "unknown objective 'kll'; did you mean 'kl'",
        fields={"objective": "kll"},
    ),
    _request(
        "no objective where there are several",
        "/objective",
        "name a table to minimise; the profile has these costs: 'kl', 'sqnr'",
        profile=_TWO_COSTS,
    ),
    _request(
        "a maximum as the objective",
        "/objective",
        "'peak' combines by max and can only be a budget",
        profile=_WITH_PEAK,
        fields={"objective": "peak"},
    ),
    _request(
        "an objective of mixed directions",
        "/objective",
        "cannot be added up",
        profile=_TWO_COSTS,
        fields={"objective": {"kl": 1.0, "sqnr": 1.0}},
        on_cli=False,
    ),
    _request(
        "an objective of weight zero",
        "/objective/kl",
        "expected a weight above 0, got 0",
        fields={"objective": {"kl": 0}},
        on_cli=False,
    ),
    _request(
        "an objective of no tables",
        "/objective",
        "at least 1 item",
        fields={"objective": {}},
        on_cli=False,
    ),
    _request(
        "an unknown budget",
        "/budgets/wieght_bytes",
        "unknown budget 'wieght_bytes'; did you mean 'weight_bytes'",
        fields={"budgets": {"wieght_bytes": 7000}},
    ),
    _request(
        "a budget of an unknown unit",
        "/budgets/weight_bytes",
        "unknown unit 'parsec' in '12 parsec'; known: B kB MB",
        fields={"budgets": {"weight_bytes": "12 parsec"}},
    ),
    _request(
        "a budget of another kind of unit",
        "/budgets/weight_bytes",
        "'3 ms' is a time, but the table is in byte",
        fields={"budgets": {"weight_bytes": "3 ms"}},
    ),
    _request(
        "a budget that is no amount",
        "/budgets/weight_bytes",
        "expected a number with an optional unit such as '12 MiB', got 'a lot'",
        fields={"budgets": {"weight_bytes": "a lot"}},
    ),
    _request(
        "a negative budget",
        "/budgets/weight_bytes",
        "expected at least 0 byte, got -1",
        fields={"budgets": {"weight_bytes": -1}},
    ),
    _request(
        "a budget that is not a number",
        "/budgets/weight_bytes",
        "finite number",
        fields={"budgets": {"weight_bytes": math.nan}},
    ),
    _request(
        "no bits per weight",
        "/budgets/effective_bits",
        "expected more than 0 bits per weight, got 0",
        fields={"budgets": {"effective_bits": 0}},
    ),
    _request(
        "effective bits of layers without parameters",
        "/budgets/effective_bits",
        "the profile has none",
        profile=_layers({"name": "up"}, {"name": "down"}),
        fields={"budgets": {"effective_bits": 4.25}},
    ),
    _request(
        "effective bits of a profile without bytes",
        "/budgets/effective_bits",
        "counted in the resource 'weight_bytes', which this profile lacks; it has: none",
        profile=tiny(resources={}),
        fields={"budgets": {"effective_bits": 4.25}},
    ),
    _request("negative caution", "/caution", "greater than or equal to 0", fields={"caution": -1.0}),
    _request(
        "a second objective that is unknown",
        "/objective/1",
        "unknown objective 'kll'; did you mean 'kl'",
        fields={"objective": ["kl", "kll"]},
    ),
    _request(
        "a limit without sides",
        "/limits/0",
        "expected min, max or both, got neither",
        fields={"limits": [{"table": "weight_bytes"}]},
    ),
    _request(
        "a limit whose min is above its max",
        "/limits/1",
        "min '3 KiB' is above max 1024",
        fields={"limits": [{"max": 1}, {"table": "weight_bytes", "min": "3 KiB", "max": 1024}]},
    ),
    _request(
        "a limit on layers that do not exist",
        "/limits/0/layers/1",
        "unknown layer or glob 'upp'; did you mean 'up'",
        fields={"limits": [{"layers": ["*", "upp"], "max": 1}]},
    ),
    _request(
        "a limit on formats that do not exist",
        "/limits/0/formats/0",
        "unknown format or glob 'int5*'",
        fields={"limits": [{"formats": ["int5*"], "max": 1}]},
    ),
    _request(
        "an unknown field of a limit",
        "/limits/0/most",
        "unknown field 'most'",
        fields={"limits": [{"most": 1}]},
    ),
    _request(
        "a limit that is not a number",
        "/limits/0/max",
        "finite number",
        fields={"limits": [{"max": math.nan}]},
    ),
    _request(
        "an unknown solver",
        "/solver",
        "unknown solver 'exakt'; did you mean 'exact'",
        fields={"solver": "exakt"},
    ),
    _request("a gap of one", "/gap", "less than 1", fields={"gap": 1.0}),
    _request(
        "a gap that is not a number",
        "/gap",
        "(got nan)",
        fields={"gap": math.nan},
    ),
    _request("no time", "/time_limit_s", "greater than 0", fields={"time_limit_s": 0.0}),
    _request(
        "endless time",
        "/time_limit_s",
        "finite number",
        fields={"time_limit_s": math.inf},
    ),
]

CASES = (*_SHAPE, *_UNKNOWN_FIELDS, *_NUMBERS, *_OPTIONS, *_REQUESTS)
