"""What the tests of ggml's codes need."""

from __future__ import annotations

import os

import pytest

from quantize.ggml.library import installed

#: Skips where ggml is not installed, but never in CI, which installs it.
NEEDS_GGML = pytest.mark.skipif(
    not installed() and "CI" not in os.environ, reason="ggml is not installed: pip install 'bitalloc[ggml]'"
)
