"""Memory of a pass: every storage that an operation allocates, followed until it is freed.

Memory that a kernel uses within one operation is not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations have allocated and that are not freed yet.

    Args:
        see: Told after every operation how many bytes are alive.
    """

    def __init__(self, see: Callable[[int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.allocated_bytes = 0  # in all, whether freed or not

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        del types
        given = {_key(item) for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)}
        result = func(*args, **(kwargs or {}))
        self._forget()
        for item in tree_leaves(result):
            # An output in the storage of an input is a view, or was written in place.
            if isinstance(item, Tensor) and _key(item) not in given and _key(item) not in self._alive:
                size = item.untyped_storage().nbytes()
                self._alive[_key(item)] = (reference(item), size)
                self.allocated_bytes += size
        self._see(self._bytes())
        return result

    def look(self) -> None:
        """Tell how many bytes are alive now."""
        self._forget()
        self._see(self._bytes())

    def holds(self, tensor: Tensor) -> bool:
        """Return whether a tensor is the output of an operation that was seen, not a parameter or data."""
        return _key(tensor) in self._alive

    def _bytes(self) -> int:
        return sum(size for _, size in self._alive.values())

    def _forget(self) -> None:
        for key in [key for key, (held, _) in self._alive.items() if gone(held)]:
            del self._alive[key]


def reference(tensor: Tensor) -> StorageWeakRef:
    """Remember the storage of a tensor without holding it.

    Returns:
        A weak reference, which also keeps the address from being given to another tensor.
    """
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def gone(held: StorageWeakRef) -> bool:
    """Tell whether a storage was freed.

    Args:
        held: From :func:`reference`.

    Returns:
        Whether nothing holds it any more.
    """
    return bool(held.expired())  # type: ignore[no-untyped-call]


def _key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key
