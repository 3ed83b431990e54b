"""Asks an owner's package about our files, in its own environment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.environments import Owner, python_of

__all__ = ["Owner", "ask"]


def ask(owner: Owner, script: str, *arguments: object) -> Any:
    """Run a script in an owner's environment; it prints its answer as the last line, as JSON."""
    program = f"import json, sys\nfrom importlib import metadata\n{script}\n"
    program += f"print(json.dumps([metadata.version({owner.name!r}), answer]))"
    done = subprocess.run(
        [python_of(owner), "-W", "ignore", "-c", program, *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    version, answer = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"loaded by {owner.name} {version}\n")
    assert version == owner.version
    return answer
