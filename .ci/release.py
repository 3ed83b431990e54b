"""A dry run of a release: build, list, install afresh, try. ``python .ci/release.py [--out dist]``.

Nothing is published. Wheel and sdist are each installed into an environment of their own, without extras, and have to
plan the example there without torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from email import message_from_string
from pathlib import Path
from typing import Annotated

import typer

from allocator import BitallocError

ROOT = Path(__file__).parents[1]
ROOMS = ("bitalloc", "allocator", "api", "quantize", "sensitivity")
#: What a package may hold beside Python files of the rooms.
_DATA = (".py", "py.typed", ".toml", ".mako", ".sql", ".json", ".html", ".css", ".js", ".svg", "LICENSE.txt")
_LARGEST_BYTES = 4_000_000
_TRY = """
import json, sys
from bitalloc import solve
plan = solve(sys.argv[1], objective="embedding_distance", budgets={"effective_bits": 3.25})
import api, quantize
print(json.dumps({"status": plan.status, "objective": plan.objective, "torch": "torch" in sys.modules}))
"""


class ReleaseError(BitallocError, RuntimeError):
    """A package is not fit to be published."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for the packages.")] = Path("dist"),
    index: Annotated[bool, typer.Option(help="Install what the packages require from the index.")] = True,
) -> None:
    """Build both packages and try them."""
    wheel, sdist = build(out, index=index)
    names = contents(wheel, sdist)
    print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, {len(names)} files")
    for name in names:
        print(f"  {name}")
    print(f"{sdist.name}: {sdist.stat().st_size:,} bytes")
    for package in (wheel, sdist):
        print(f"{package.name} plans the example afresh: {tried(package, index=index)}")


def build(out: Path, *, index: bool = True) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it, which shows that the sdist is complete.

    Args:
        out: Folder for the packages; must hold none.
        index: Whether the build's own requirements come from the index; else from this environment.

    Returns:
        Wheel and sdist.

    Raises:
        ReleaseError: There are packages already.
    """
    if out.exists() and any(out.iterdir()):
        raise ReleaseError(f"{out} is not empty; move what is in it away, so that nothing old is published")
    here = [] if index else ["--no-isolation"]
    run([sys.executable, "-m", "build", *here, "--outdir", str(out), str(ROOT)])
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def contents(wheel: Path, sdist: Path) -> list[str]:
    """List a wheel and check it, and its sdist.

    Args:
        wheel: The wheel.
        sdist: The sdist.

    Returns:
        Names of the wheel's files.

    Raises:
        ReleaseError: Something is in them that should not be, or is missing; names it.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(about).decode())
    with tarfile.open(sdist) as source:
        sources = {name.partition("/")[2] for name in source.getnames()}
    wrong = [name for name in names if not _expected(name)]
    wrong += [f"{room}/py.typed is missing" for room in ROOMS if f"{room}/py.typed" not in names]
    wrong += [
        f"{name} is missing in the wheel"
        for name in _tracked()
        if name.partition("/")[0] in ROOMS and name.endswith(".py") and name not in names
    ]
    wrong += [f"{name} is missing in the sdist" for name in ("LICENSE", "README.md") if name not in sources]
    if metadata["License-Expression"] != "Apache-2.0":
        wrong.append(f"expected the licence Apache-2.0, got {metadata['License-Expression']}")
    if wheel.stat().st_size > _LARGEST_BYTES:
        wrong.append(f"{wheel.stat().st_size:,} bytes are more than {_LARGEST_BYTES:,}: what got into it?")
    if wrong:
        raise ReleaseError("\n".join([f"{wheel.name} is not fit to be published:", *wrong]))
    return names


def tried(package: Path, *, index: bool = True) -> dict[str, object]:
    """Install a package into a fresh environment and plan the example there.

    Args:
        package: Wheel or sdist.
        index: Whether the package's requirements come from the index, as a user's would; else from this environment.

    Returns:
        What the plan says.

    Raises:
        ReleaseError: It cannot be installed, or plans otherwise than it should.
    """
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        shared = [] if index else ["--system-site-packages"]
        run([sys.executable, "-m", "venv", *shared, str(python.parents[1])])
        alone = [] if index else ["--no-deps", "--no-build-isolation", "--ignore-installed"]
        pins = ["-c", str(ROOT / "constraints.txt")]
        paths = (
            {}
            if index
            else {"PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path)}
        )
        run([str(python), "-m", "pip", "install", "--quiet", *pins, *alone, str(package)], paths)
        example = str(ROOT / "examples" / "minilm.json")
        said = json.loads(run([str(python), "-c", _TRY, example], paths, cwd=folder))
        version = run([str(python.parent / "bitalloc"), "--version"], paths, cwd=folder)
        answer = run(
            [
                str(python.parent / "bitalloc"),
                "solve",
                example,
                "-o",
                "fisher",
                "-b",
                "effective_bits=4",
                "--json",
            ],
            paths,
            cwd=folder,
        )
    if said["status"] != "optimal" or said["torch"] or json.loads(answer)["status"] != "optimal":
        raise ReleaseError(f"{package.name}: expected optimal plans without torch, got {said} and {answer}")
    return {"version": version.split()[-1], **said}


def run(command: Sequence[str], environment: dict[str, str] | None = None, cwd: str | None = None) -> str:
    """Run a command.

    Args:
        command: The command.
        environment: Variables to set beside those of this process.
        cwd: Folder to run it in.

    Returns:
        What it printed.

    Raises:
        ReleaseError: It failed; holds what it said.
    """
    around = os.environ | (environment or {})
    done = subprocess.run(command, env=around, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _tracked() -> list[str]:
    return run(["git", "-C", str(ROOT), "ls-files"]).splitlines()


def _expected(name: str) -> bool:
    room, _, rest = name.partition("/")
    return (room in ROOMS and rest.endswith(_DATA)) or room.endswith(".dist-info")


if __name__ == "__main__":
    typer.run(main)
