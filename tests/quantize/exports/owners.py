"""Owners' packages, each in a virtual environment of its own: their requirements exclude each other.

An environment sees the packages of this one (torch, transformers) through a ``.pth`` file and adds to them. It is made
once, under ``.cache/owners``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".cache" / "owners"
#: What no environment may replace: a torch for other hardware is gigabytes.
KEPT = ("torch==", "numpy==")


@dataclass(frozen=True)
class Owner:
    """A package that loads our files.

    Attributes:
        name: Its distribution.
        version: The version that is tested.
        extra: What it needs besides.
        built: Whether it is built from source with the build tools in ``extra``, and without what it requires: some
            require a torch that this environment does not have.
    """

    name: str
    version: str
    extra: Sequence[str] = ()
    built: bool = False


def python_of(owner: Owner) -> Path:
    """The interpreter of an owner's environment, made on first use."""
    folder = CACHE / f"{owner.name}-{owner.version}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        (library,) = folder.glob("lib/python*/site-packages")
        (library / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pinned = folder / "pinned.txt"
        lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        pinned.write_text("\n".join(line for line in lines if line.startswith(KEPT)))
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", pinned]
        package = f"{owner.name}=={owner.version}"
        if owner.built:
            subprocess.run([*install, *owner.extra], check=True)
            subprocess.run([*install, "--no-deps", "--no-build-isolation", package], check=True)
        else:
            subprocess.run([*install, package, *owner.extra], check=True)
        ready.touch()
    return python


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
