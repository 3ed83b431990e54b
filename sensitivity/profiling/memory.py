"""Memory: how much is free, and a refusal before the work begins where it is not enough."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError

_GIB = 2**30


def free_bytes(device: torch.device | str = "cpu", root: Path = Path("/")) -> int | None:
    """How much memory can still be used.

    Args:
        root: Where the files of the operating system are.

    Returns:
        Bytes: of an accelerator what it has free; of the machine what is available, within the limit of the control
        group where there is one. None where the machine does not say.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    found = [
        amount for amount in (_available(root / "proc/meminfo"), _allowed(root / "sys/fs/cgroup")) if amount
    ]
    return min(found, default=None)


def size_bytes(model: nn.Module) -> int:
    """Bytes of the parameters and buffers of a model, tied ones once.

    Returns:
        Bytes.

    Example:
        >>> size_bytes(nn.Linear(3, 2))
        32
    """
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def require_memory(needed: Mapping[str, int], free: int | None, where: str, advice: str) -> None:
    """Refuse work that will not fit.

    Args:
        needed: What for → bytes.
        free: What can be used; None where that is not known, and nothing is refused.
        where: JSON pointer to what asks for the memory.
        advice: What to do instead.

    Raises:
        InvalidInputError: The sum is more than what is free; lists every part.

    Example:
        >>> require_memory({"the model": 3 * 2**30}, 2**30, "/workers", "use fewer workers")
        Traceback (most recent call last):
        allocator.contract.errors.InvalidInputError: /workers: needs about 3.0 GiB (the model 3.0), 1.0 GiB are free; \
use fewer workers
    """
    total = sum(needed.values())
    if free is None or total <= free:
        return
    size, unit = (_GIB, "GiB") if total >= _GIB else (2**20, "MiB")
    parts = ", ".join(f"{name} {amount / size:.1f}" for name, amount in needed.items())
    detail = f"needs about {total / size:.1f} {unit} ({parts}), {free / size:.1f} {unit} are free; {advice}"
    raise InvalidInputError(Fault(where, detail))


def _available(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return _physical()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else _physical()


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _allowed(folder: Path) -> int | None:
    # Control groups, version 2; "max" stands for no limit.
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):
        return None
