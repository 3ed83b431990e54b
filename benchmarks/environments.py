"""Other tools' packages, each in a virtual environment of its own: their requirements exclude each other.

An environment sees the packages of this one (torch, transformers) through a ``.pth`` file and adds to them. It is made
once, under ``.cache/owners``.
"""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import ROOT, environment

CACHE = ROOT / ".cache" / "owners"
#: What no environment may replace: a torch for other hardware is gigabytes.
KEPT = ("torch==", "numpy==")


@dataclass(frozen=True)
class Owner:
    """A package that reads our files, or whose plans are compared with ours.

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
    """Find the interpreter of an owner's environment, which is made on first use.

    Args:
        owner: The package.

    Returns:
        Path of the interpreter.
    """
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


def run_module(owner: Owner, module: str, *arguments: object) -> None:
    """Run one of our modules with an owner's package.

    Args:
        module: Name of the module, which runs as a program.
        arguments: Of the program.

    Raises:
        RuntimeError: It failed; the last lines that it wrote are in the message.
    """
    done = subprocess.run(
        [python_of(owner), "-P", "-W", "ignore", "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"{owner.name} {owner.version} failed in {module}:\n{last}")
