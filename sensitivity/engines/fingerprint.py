"""What a computation is, as a number: the same in every process, another as soon as its code or options change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from sensitivity.study.calibration import digest

_PLAIN = (Tensor, str, bytes, int, float, bool, type(None))


def fingerprint(value: object) -> str:
    """SHA-256 over a function with everything bound to it, or over any value.

    Of functions it sees the code, the defaults and the closure, but not the functions that they call.

    Args:
        value: A function, a partial of one, a tensor, a number, or objects made of these.

    Returns:
        64 hexadecimal digits.

    Raises:
        InvalidInputError: Something is bound that cannot be looked into.

    Example:
        >>> def scaled(x, by): return by * x
        >>> fingerprint(partial(scaled, by=2)) == fingerprint(partial(scaled, by=2))
        True
        >>> fingerprint(partial(scaled, by=2)) == fingerprint(partial(scaled, by=3))
        False
    """
    return digest(_plain(value, ()))


def _plain(value: Any, path: tuple[int, ...]) -> Any:  # noqa: ANN401
    # A tree of what ``digest`` takes. ``path`` holds what is being looked into, for structures that contain themselves.
    if isinstance(value, _PLAIN):
        return value
    if id(value) in path:
        return ["cycle", len(path) - path.index(id(value))]
    inside = (*path, id(value))
    if isinstance(value, (list, tuple)):
        return [_plain(item, inside) for item in value]
    if isinstance(value, Mapping):
        return ["mapping", [[_plain(key, inside), _plain(item, inside)] for key, item in value.items()]]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(digest(_plain(item, inside)) for item in value)]
    if isinstance(value, (np.ndarray, np.generic)):
        return ["array", value.dtype.str, list(value.shape), value.tobytes()]
    return [_name(value), _plain(_parts(value), inside)]


def _parts(value: Any) -> object:  # noqa: ANN401
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_code(value.__code__), value.__defaults__, value.__kwdefaults__, cells]
    if isinstance(value, nn.Module):
        return dict(value.state_dict())
    if isinstance(value, type):
        return None
    try:
        return value.__reduce_ex__(2)  # what a copy is made from
    except TypeError as error:
        if hasattr(value, "__dict__"):
            return vars(value)
        detail = f"a {type(value).__name__} is bound that cannot be told from another: {error}; bind values instead"
        raise InvalidInputError(Fault("/estimators", detail)) from error


def _code(code: CodeType) -> list[object]:
    constants = [_code(item) if isinstance(item, CodeType) else item for item in code.co_consts]
    return [code.co_code, code.co_names, constants]


def _name(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', '')}"
