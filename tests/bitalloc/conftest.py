"""The real service, for what talks to it."""

from tests.api.conftest import data_dir, service, without_solvers

__all__ = ["data_dir", "service", "without_solvers"]
