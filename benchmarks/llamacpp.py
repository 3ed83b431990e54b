"""llama.cpp in an environment of its own, for it builds from source for many minutes."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allocator import MissingPackageError

_SCRIPT = Path(__file__).with_name("llamacpp_decode.py")
_INSTALL = (
    "build it in an environment of its own, about 20 minutes of one core: python3 -m venv llamacpp && "
    'CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAMA_CURL=OFF" llamacpp/bin/pip install llama-cpp-python==0.3.36'
)


@dataclass(frozen=True)
class LlamaCpp:
    """Where llama.cpp runs.

    Attributes:
        python: A Python that can import llama_cpp.
        version: Its version of llama-cpp-python.
        threads: Threads of one token.
    """

    python: str
    version: str
    threads: int = 1


def find_llamacpp(python: str | Path) -> LlamaCpp:
    """Look whether llama.cpp is there.

    Args:
        python: A Python that can import llama_cpp.

    Returns:
        Where it runs.

    Raises:
        MissingPackageError: There is no such Python, or it has no llama_cpp.
    """
    command = [str(python), "-c", "import llama_cpp; print(llama_cpp.__version__)"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise MissingPackageError(
            f"expected a Python with llama_cpp, got {str(python)!r}: {said}; {_INSTALL}"
        ) from error
    return LlamaCpp(str(python), found.stdout.split()[-1])


def us_per_token(
    runtime: LlamaCpp, files: Sequence[Path], tokens: Sequence[int], rounds: int
) -> NDArray[np.float64]:
    """Decode files in turns, so that whatever else the machine does falls on all of them alike.

    Args:
        runtime: Where llama.cpp runs.
        files: GGUF files.
        tokens: What is decoded, one token after the other, without batching.
        rounds: Times each file decodes all tokens, after one to warm up.

    Returns:
        (R, N) microseconds per token.
    """
    asked = {"files": list(map(str, files)), "tokens": list(tokens), "rounds": rounds + 1}
    found = _run(runtime, {**asked, "vocabulary": 0})
    return np.array(found["us_per_token"], dtype=float)[1:]


def logits(runtime: LlamaCpp, file: Path, tokens: Sequence[int], vocabulary: int) -> NDArray[np.float32]:
    """Say what a file makes of a text.

    Args:
        runtime: Where llama.cpp runs.
        file: A GGUF file.
        vocabulary: Number of tokens that there are, V.

    Returns:
        (T, V) logits, computed token by token as in decoding.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits"
        asked = {"files": [str(file)], "tokens": list(tokens), "rounds": 0, "logits": [str(out)]}
        _run(runtime, {**asked, "vocabulary": vocabulary})
        return np.frombuffer(out.read_bytes(), dtype=np.float32).reshape(len(tokens), vocabulary)


def _run(runtime: LlamaCpp, asked: dict[str, object]) -> dict[str, object]:
    text = json.dumps({**asked, "threads": runtime.threads})
    done = subprocess.run([runtime.python, str(_SCRIPT), text], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"llama.cpp ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found
