"""A module is what its name imports: no attribute of a package hides one of its submodules."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from tests.test_arrows import ROOMS, ROOT


def modules() -> list[str]:
    """Every module of ours, imported."""
    names = []
    for room in (*ROOMS, "benchmarks"):
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "migrations" in parts or parts[-1] == "__main__":
                continue  # programs, which are run and not imported
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            importlib.import_module(name)
            names.append(name)
    return names


def test_no_package_hides_a_module_of_its_own() -> None:
    hidden = {}
    for name in modules():
        package, _, own = name.rpartition(".")
        if package and getattr(sys.modules[package], own) is not sys.modules[name]:
            hidden[name] = getattr(sys.modules[package], own)
    assert not hidden


def test_a_public_function_may_have_the_name_of_its_module() -> None:
    import sensitivity.estimators.fisher as module
    from sensitivity import fisher

    assert isinstance(module, ModuleType)
    assert module.fisher is fisher
