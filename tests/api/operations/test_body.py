"""Pointers of the library become pointers into the body."""

from __future__ import annotations

import pytest

from allocator import Fault, InvalidInputError
from api.operations.body import pointing_into_body


def moved(*pointers: str, **options: object) -> list[str]:
    with pytest.raises(InvalidInputError, match="odd") as refusal, pointing_into_body(**options):  # type: ignore[arg-type]
        raise InvalidInputError(*(Fault(pointer, "odd") for pointer in pointers))
    return [fault.pointer for fault in refusal.value.faults]


def test_fields_of_a_profile_lie_in_the_profile() -> None:
    assert moved("/layers/0", "/fusions", "/gap", "") == ["/profile/layers/0", "/profile/fusions", "/gap", ""]


def test_members_can_lie_elsewhere() -> None:
    assert moved("/objective/0", "/budgets/kl", members={"objective": "/second/objective"}) == [
        "/second/objective/0",
        "/budgets/kl",
    ]


def test_everything_else_can_lie_in_one_part() -> None:
    found = moved("/layers", "/runtime", "", members={"runtime": "/runtime"}, otherwise="/files")
    assert found == ["/files/layers", "/runtime", "/files"]


def test_without_a_fault_nothing_happens() -> None:
    with pointing_into_body():
        pass
