from __future__ import annotations

import json

import pytest

from allocator.contract.errors import (
    BitallocError,
    CertificateError,
    Fault,
    InvalidInputError,
    MissingPackageError,
    pointer,
    require,
    unknown,
)


def test_every_error_is_a_bitalloc_error_and_the_builtin_it_resembles() -> None:
    for error, builtin in ((InvalidInputError, ValueError), (MissingPackageError, ImportError)):
        assert issubclass(error, BitallocError)
        assert issubclass(error, builtin)
    assert issubclass(CertificateError, (BitallocError, RuntimeError))


def test_the_message_has_one_line_per_fault() -> None:
    error = InvalidInputError(Fault("/a", "first"), Fault("", "second"))
    assert str(error) == "/a: first\n/: second"


def test_pointers_escape_slash_and_tilde() -> None:
    assert pointer(("a/b", "c~d", 0)) == "/a~1b/c~0d/0"
    assert pointer(()) == ""


def test_an_unknown_name_comes_with_near_and_known_ones() -> None:
    assert unknown("kl", [], "budget") == "unknown budget 'kl'; known: none"
    assert unknown("zz", [f"layer{n}" for n in range(25)], "layer").endswith("'layer19' and 5 more")


def test_require_returns_the_module_or_says_what_to_install() -> None:
    assert require("json", "solvers") is json
    with pytest.raises(
        MissingPackageError, match=r"nowhere is needed here .* pip install 'bitalloc\[solvers\]'"
    ):
        require("nowhere.at.all", "solvers")
