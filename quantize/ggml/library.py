"""ggml itself, as the wheel ``xllamacpp`` carries it, called through ctypes.

The wheel's extension module exports the functions of ggml, so that no build and no import of its bindings is needed.
Calls release the interpreter's lock: rows of one weight are shared out to threads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from allocator import MissingPackageError
from quantize.ggml.types import BlockType

#: Import name of the package that carries ggml.
PACKAGE = "xllamacpp"
_HINT = "install it with: pip install 'bitalloc[ggml]'"


def installed() -> bool:
    """Return whether ggml can be found, without loading it."""
    return find_spec(PACKAGE) is not None


@cache
def library() -> ctypes.CDLL:
    """Load ggml.

    Returns:
        The library, its functions declared.

    Raises:
        MissingPackageError: It is not installed, or exports no quantization.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise MissingPackageError(
            f"ggml, which quantizes to the types of llama.cpp, is not installed; {_HINT}"
        )
    folder = Path(found.origin).parent
    for file in sorted(item for kind in ("*.so", "*.pyd", "*.dylib") for item in folder.glob(kind)):
        loaded = ctypes.CDLL(str(file))
        if hasattr(loaded, "ggml_quantize_chunk"):
            return _declared(loaded)
    raise MissingPackageError(f"the installed {PACKAGE} exports no ggml_quantize_chunk; {_HINT}")


def version() -> str:
    """Say which ggml it is.

    Returns:
        Its version and commit.

    Raises:
        MissingPackageError: It is not installed.
    """
    loaded = library()
    return f"{loaded.ggml_version().decode()} ({loaded.ggml_commit().decode()})"


def knows(kind: BlockType) -> bool:
    """Whether the installed ggml has a type, with the blocks that we count with.

    Returns:
        True where names and sizes agree.

    Raises:
        MissingPackageError: ggml is not installed.
    """
    loaded = library()
    name = loaded.ggml_type_name(kind.number)
    if name is None or name.decode().lower() != kind.name:
        return False
    sizes = loaded.ggml_blck_size(kind.number), loaded.ggml_type_size(kind.number)
    return bool(sizes == (kind.block, kind.block_bytes))


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    number, pointer, count = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
    signatures = {
        "ggml_quantize_chunk": ([number, pointer, pointer, count, count, count, pointer], ctypes.c_size_t),
        "ggml_validate_row_data": ([number, pointer, ctypes.c_size_t], ctypes.c_bool),
        "ggml_type_name": ([number], ctypes.c_char_p),
        "ggml_type_size": ([number], ctypes.c_size_t),
        "ggml_blck_size": ([number], count),
        "ggml_version": ([], ctypes.c_char_p),
        "ggml_commit": ([], ctypes.c_char_p),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, result
    return loaded
