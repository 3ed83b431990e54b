"""The dry run of a release accepts what we build, and refuses what should not be published."""

from __future__ import annotations

import io
import runpy
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "release.py"))
ERROR: type[Exception] = RELEASE["ReleaseError"]
METADATA = "Metadata-Version: 2.4\nName: bitalloc\nLicense-Expression: {}\n"


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """A wheel with every module of ours, and an sdist, with changes."""

    def make(*, without: str = "", extra: str = "", licence: str = "Apache-2.0") -> tuple[Path, Path]:
        names = [
            name
            for name in RELEASE["_tracked"]()
            if name.partition("/")[0] in RELEASE["ROOMS"] and name.endswith((".py", "py.typed"))
        ]
        wheel, sdist = tmp_path / "bitalloc.whl", tmp_path / "bitalloc.tar.gz"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in [*names, *([extra] if extra else [])]:
                if name != without:
                    archive.writestr(name, "")
            archive.writestr("bitalloc.dist-info/METADATA", METADATA.format(licence))
        with tarfile.open(sdist, "w:gz") as archive:
            for name in ("LICENSE", "README.md"):
                if name != without:
                    archive.addfile(tarfile.TarInfo(f"bitalloc/{name}"), io.BytesIO())
        return wheel, sdist

    return make


def test_whole_packages_are_listed(packed: Callable[..., tuple[Path, Path]]) -> None:
    names = RELEASE["contents"](*packed())
    assert "allocator/answer/solve.py" in names
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": "tests/test_release.py"}, r"tests/test_release\.py"),
        ({"extra": "api/model.safetensors"}, r"api/model\.safetensors"),
        ({"without": "allocator/answer/solve.py"}, r"allocator/answer/solve\.py is missing in the wheel"),
        ({"without": "quantize/py.typed"}, r"quantize/py\.typed is missing"),
        ({"without": "LICENSE"}, "LICENSE is missing in the sdist"),
        ({"licence": "MIT"}, r"expected the licence Apache-2\.0, got MIT"),
    ],
)
def test_packages_with_something_wrong_are_refused(
    packed: Callable[..., tuple[Path, Path]], changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ERROR, match=message):
        RELEASE["contents"](*packed(**changes))


def test_a_wheel_that_is_too_large_is_refused(
    packed: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RELEASE["contents"].__globals__, "_LARGEST_BYTES", 100)
    with pytest.raises(ERROR, match="are more than 100: what got into it"):
        RELEASE["contents"](*packed())


def test_old_packages_are_not_published_again(tmp_path: Path) -> None:
    (tmp_path / "bitalloc-0.0.1.whl").touch()
    with pytest.raises(ERROR, match="is not empty; move what is in it away"):
        RELEASE["build"](tmp_path)


def test_a_command_that_fails_shows_what_it_said() -> None:
    with pytest.raises(ERROR, match=r"(?s)ended with 3.*because"):
        RELEASE["run"](["bash", "-c", "echo because; exit 3"])


@pytest.mark.long
def test_both_packages_plan_the_example_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, sdist = RELEASE["build"](tmp_path / "dist", index=False)
    RELEASE["contents"](wheel, sdist)
    for package in (wheel, sdist):
        said = RELEASE["tried"](package, index=False)
        assert said["status"] == "optimal"
        assert said["torch"] is False
    monkeypatch.setitem(
        RELEASE["tried"].__globals__, "_TRY", 'print(\'{"status": "feasible", "torch": false}\')'
    )
    with pytest.raises(ERROR, match=r"expected optimal plans without torch, got .*feasible"):
        RELEASE["tried"](wheel, index=False)
