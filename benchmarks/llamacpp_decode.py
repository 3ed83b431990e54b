"""Decode GGUF files with llama.cpp: ``python llamacpp_decode.py '{"files": [...], ...}'``.

Run by the Python of an environment that has llama-cpp-python, so it imports nothing of this project;
:mod:`benchmarks.llamacpp` calls it.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

_SWEPT_BYTES = 256 * 2**20  # more than caches hold


def main(asked: dict[str, Any]) -> None:
    """Time files in turns, or take their logits.

    Args:
        asked: ``files``; ``tokens``, numbers of tokens; ``rounds`` of decoding them one by one, file after file, each
            with weights that have to come from memory; ``threads``; ``vocabulary``; ``logits``, files to write the
            logits of all tokens to, raw (T, V) float32.
    """
    lib = import_module("llama_cpp")
    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    contexts = [_context(lib, path, len(asked["tokens"]), asked["threads"]) for path in asked["files"]]
    for context, path in zip(contexts, asked.get("logits") or [], strict=False):
        Path(path).write_bytes(_logits(lib, context, asked["tokens"], asked["vocabulary"]))
    memory = np.ones(_SWEPT_BYTES // 8)
    rounds = [
        [_decode(lib, context, asked["tokens"], memory) for context in contexts]
        for _ in range(asked["rounds"])
    ]
    sys.stdout.write(json.dumps({"us_per_token": rounds, "version": lib.__version__}) + "\n")


def _context(lib: Any, path: str, tokens: int, threads: int) -> Any:  # noqa: ANN401 - a pointer of ctypes
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {path}")
    settings = lib.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = tokens
    settings.n_threads = settings.n_threads_batch = threads
    context = lib.llama_init_from_model(model, settings)
    if not context:
        raise SystemExit(f"llama.cpp cannot run {path}")
    return context


def _decode(lib: Any, context: Any, tokens: list[int], memory: Any) -> float:  # noqa: ANN401
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    given = (lib.llama_token * 1)()
    seconds = 0.0
    for token in tokens:
        memory.sum()  # what a cache has kept of the weights, and how much of it is ours, differs from hour to hour
        given[0] = token
        start = time.perf_counter()
        if lib.llama_decode(context, lib.llama_batch_get_one(given, 1)):
            raise SystemExit("llama.cpp failed to decode a token")
        lib.llama_synchronize(context)
        seconds += time.perf_counter() - start
    return seconds / len(tokens) * 1e6


def _logits(lib: Any, context: Any, tokens: list[int], vocabulary: int) -> bytes:  # noqa: ANN401
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    rows = []
    given = (lib.llama_token * 1)()
    for token in tokens:
        given[0] = token
        if lib.llama_decode(context, lib.llama_batch_get_one(given, 1)):
            raise SystemExit("llama.cpp failed to decode a token")
        rows.append(ctypes.string_at(lib.llama_get_logits(context), 4 * vocabulary))
    return b"".join(rows)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
