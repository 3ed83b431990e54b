"""llama.cpp itself, out of the wheel that carries ggml: tokens of a text, and logits of tokens.

Structures go by value and are larger here than any of llama.cpp's; only its own functions look into them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from quantize.ggml.library import library


class Opaque(ctypes.Structure):
    """Whatever llama.cpp keeps there."""

    _fields_ = [("content", ctypes.c_uint64 * 64)]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
SILENT = LOG(lambda *_: None)


def functions() -> ctypes.CDLL:
    lib = library()
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    for name, result, arguments in (
        ("llama_log_set", None, [LOG, pointer]),
        ("llama_backend_init", None, []),
        ("llama_model_default_params", Opaque, []),
        ("llama_context_default_params", Opaque, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Opaque]),
        ("llama_model_free", None, [pointer]),
        ("llama_init_from_model", pointer, [pointer, Opaque]),
        ("llama_free", None, [pointer]),
        ("llama_batch_get_one", Opaque, [pointer, number]),
        ("llama_decode", number, [pointer, Opaque]),
        ("llama_get_logits", pointer, [pointer]),
        ("llama_model_get_vocab", pointer, [pointer]),
        (
            "llama_tokenize",
            number,
            [pointer, ctypes.c_char_p, number, pointer, number, ctypes.c_bool, ctypes.c_bool],
        ),
        ("llama_model_chat_template", ctypes.c_char_p, [pointer, ctypes.c_char_p]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.llama_log_set(SILENT, None)
    return lib


@contextmanager
def loaded(path: Path) -> Iterator[tuple[ctypes.CDLL, int]]:
    lib = functions()
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    assert model, f"llama.cpp does not load {path}"
    try:
        yield lib, model
    finally:
        lib.llama_model_free(model)


def tokenized(path: Path, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
    """Numbers of the tokens of texts; ``special`` puts what belongs around them and reads names of special tokens."""
    found = []
    with loaded(path) as (lib, model):
        vocabulary = lib.llama_model_get_vocab(model)
        for text in texts:
            content = text.encode()
            out = (ctypes.c_int32 * (len(content) + 16))()
            count = lib.llama_tokenize(vocabulary, content, len(content), out, len(out), special, special)
            found.append(list(out[:count]))
    return found


def chat_template(path: Path) -> str:
    with loaded(path) as (lib, model):
        return str(lib.llama_model_chat_template(model, None).decode())


def logits(path: Path, tokens: Sequence[int], vocabulary: int) -> np.ndarray:
    """(T, V), token by token."""
    rows = []
    with loaded(path) as (lib, model):
        context = lib.llama_init_from_model(model, lib.llama_context_default_params())
        assert context, f"llama.cpp does not run {path}"
        for token in tokens:
            given = (ctypes.c_int32 * 1)(token)
            assert lib.llama_decode(context, lib.llama_batch_get_one(given, 1)) == 0
            rows.append(ctypes.string_at(lib.llama_get_logits(context), 4 * vocabulary))
        lib.llama_free(context)
    return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(len(tokens), vocabulary)
