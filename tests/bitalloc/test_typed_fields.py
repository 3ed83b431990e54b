"""The fields that entry points take are those of a request, in number and in kind."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

import allocator
from allocator import Request
from allocator.contract.request import Limit, RequestFields, SharedFields
from bitalloc.client import AsyncClient, Client
from quantize.feedback import refine

WITH_FIELDS = [
    *(
        getattr(allocator, name)
        for name in ("solve", "frontier", "surface", "stability", "explain", "export_mps")
    ),
    *(allocator.continuous_plan, allocator.solve_many, refine),
    *(
        getattr(client, name)
        for client in (Client, AsyncClient)
        for name in ("allocate", "frontier", "submit", "compare")
    ),
]
EVERY: dict[str, Any] = {
    "objective": ["kl", {"kl": 1.0, "fisher": 0.5}],
    "caution": 1.0,
    "budgets": {"effective_bits": 4.25, "latency_us": "500 us"},
    "limits": [{"table": "kl", "max": 1}, Limit(formats=("int8",), max=3)],
    "pin": {"a": "int4"},
    "allow": {"b*": ["int4", "int8"]},
    "forbid": {"c": ("int2",)},
    "solver": "highs",
    "gap": 0.01,
    "time_limit_s": 2.5,
    "node_limit": 500,
}


def test_the_typed_fields_are_the_fields_of_a_request() -> None:
    assert typing.get_type_hints(RequestFields).keys() == Request.model_fields.keys()
    assert typing.get_type_hints(SharedFields).keys() == Request.model_fields.keys() - {"budgets"}
    assert EVERY.keys() == Request.model_fields.keys()
    Request.model_validate(EVERY)


@pytest.mark.parametrize("field", EVERY)
def test_a_field_has_the_type_that_a_request_takes(field: str) -> None:
    kind: TypeAdapter[Any] = TypeAdapter(typing.get_type_hints(RequestFields)[field])
    kind.validate_python(EVERY[field])
    for check in (kind.validate_python, lambda value: Request.model_validate({field: value})):
        with pytest.raises(ValidationError):
            check(object())


@pytest.mark.parametrize("function", WITH_FIELDS, ids=lambda function: function.__qualname__)
def test_entry_points_take_typed_fields(function: Any) -> None:
    kind = inspect.signature(function, eval_str=True).parameters["fields"].annotation
    (fields,) = typing.get_args(kind)
    assert fields in {RequestFields, SharedFields}
