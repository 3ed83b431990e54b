"""Write ``bitalloc/client/blocking.py`` from ``asynchronous.py``: ``python .ci/blocking_client.py``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "bitalloc" / "client"
_CHANGES = (
    (
        r"The asynchronous client; .*?(?=\"\"\")",
        "The blocking client; written by ``.ci/blocking_client.py``, edit ``asynchronous.py``.",
    ),
    (r"\basync (?=def|with|for)", ""),
    (r"\bawait ", ""),
    (r"\b(httpx2\.)?Async(?=Client|BaseTransport|Iterator)", r"\1"),
    (r"\ba(?=read\(|close\(|iter_lines\()", ""),
    (r"__a(?=enter__|exit__)", "__"),
    (r"\basyncio\b", "time"),
    (r"an asynchronous context manager", "a context manager"),
)


def blocking(source: str) -> str:
    """Translate the asynchronous client.

    Args:
        source: Text of ``asynchronous.py``.

    Returns:
        Text of ``blocking.py``.
    """
    for found, instead in _CHANGES:
        source = re.sub(found, instead, source, flags=re.DOTALL)
    command = [sys.executable, "-m", "ruff"]
    for step in (("check", "--fix", "--quiet", "--select", "I"), ("format", "--quiet")):
        name = ("--stdin-filename", str(CLIENT / "blocking.py"), "-")
        done = subprocess.run(
            [*command, *step, *name], input=source, capture_output=True, text=True, check=True
        )
        source = done.stdout
    return source


if __name__ == "__main__":
    (CLIENT / "blocking.py").write_text(blocking((CLIENT / "asynchronous.py").read_text("utf-8")), "utf-8")
