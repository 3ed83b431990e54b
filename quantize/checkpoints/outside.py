"""What a checkpoint stores beside the weights that are planned: names, bytes and reasons, from headers alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from allocator import Outside, ResourceTable
from allocator.knapsack.tables import WEIGHT_BYTES
from quantize.checkpoints.safetensors import stored_tensors

#: Why the experts of a mixture are not planned where nobody asked for them or could have.
EXPERTS = "experts: not supported here"
#: A second name under which a checkpoint stores a weight that is planned under its first.
SECOND_COPY = "second copy of a tied weight"


def outside_of_folder(
    folder: Path,
    planned: Iterable[Sequence[str]],
    *,
    reasons: Mapping[str, str] | None = None,
    otherwise: str = "not supported here",
    experts: bool = False,
) -> tuple[Outside, ...]:
    """List the tensors of a checkpoint that no planned layer is about.

    Args:
        folder: Folder with ``*.safetensors``, or one such file.
        planned: Names of the planned layers; each a sequence, since tied weights have several. A wrapper's name before
            that of the checkpoint, or the other way round, is seen through where it leaves no doubt.
        reasons: Tensor → why it is not planned, where that is known.
        otherwise: Why weights that nothing else is known of are not planned.
        experts: Whether the experts of mixtures are planned; their names differ between checkpoints and modules.

    Returns:
        In the order of the checkpoint.

    Raises:
        InvalidInputError: There is no checkpoint, or its header cannot be read.
    """
    tensors = stored_tensors(folder)
    covered, copies = _covered(list(tensors), planned)
    known = {} if reasons is None else _as_stored(list(tensors), reasons)
    found = []
    for name, tensor in tensors.items():
        if name in covered or (experts and _of_experts(name)):
            continue
        reason = SECOND_COPY if name in copies else known.get(name) or guessed(name, tensor.shape, otherwise)
        size = tensor.end - tensor.start
        found.append(Outside(name=name, parameters=math.prod(tensor.shape), stored_bytes=size, reason=reason))
    return tuple(found)


def with_outside(
    resources: Mapping[str, ResourceTable], outside: Sequence[Outside]
) -> dict[str, ResourceTable]:
    """Let every plan pay for what lies outside it, so that a budget in bytes is about the file.

    Returns:
        The same tables; the constant of ``weight_bytes`` has the bytes as well.
    """
    tables = dict(resources)
    if WEIGHT_BYTES in tables:
        table = tables[WEIGHT_BYTES]
        constant = table.constant + sum(item.stored_bytes for item in outside)
        tables[WEIGHT_BYTES] = table.model_copy(update={"constant": float(constant)})
    return tables


def guessed(name: str, shape: Sequence[int], otherwise: str) -> str:
    """Say why a tensor is not planned, by its name and shape.

    Args:
        otherwise: What to say of a weight.

    Returns:
        The reason.

    Example:
        >>> guessed("model.norm.weight", (64,), "not in the scores"), guessed("h.0.attn.c_attn.weight", (8, 8), "?")
        ('norm', '?')
    """
    owner, _, last = name.lower().rpartition(".")
    if "bias" in last:
        return "bias"
    if last in {"running_mean", "running_var", "num_batches_tracked"}:
        return "buffer"
    kind = owner.rpartition(".")[2]
    if len(shape) < 2:
        return "norm" if "norm" in kind or kind.startswith("ln") else "vector"
    return EXPERTS if _of_experts(name) else otherwise


def _of_experts(name: str) -> bool:
    return "experts." in name


def _covered(stored: Sequence[str], planned: Iterable[Sequence[str]]) -> tuple[set[str], set[str]]:
    # Of several names of one weight the first that is stored is the planned one; what else is stored is a copy.
    find = _Finder(stored)
    covered: set[str] = set()
    copies: set[str] = set()
    for names in planned:
        # All experts of a block may be one parameter, which is no module's weight.
        found = [
            match for name in names if (match := find(f"{name}.weight") or find(name, whole=True)) is not None
        ]
        covered.update(found[:1])
        copies.update(found[1:])
    return covered, copies - covered


def _as_stored(stored: Sequence[str], reasons: Mapping[str, str]) -> dict[str, str]:
    find = _Finder(stored)
    return {match: reason for name, reason in reasons.items() if (match := find(name)) is not None}


class _Finder:
    """Finds a tensor under the name of a module, which may have a wrapper's name before it, or lack one."""

    def __init__(self, stored: Sequence[str]) -> None:
        self._stored = set(stored)
        self._by_tail: dict[str, list[str]] = {}
        for name in stored:
            _, dot, tail = name.partition(".")
            while dot:
                self._by_tail.setdefault(tail, []).append(name)
                _, dot, tail = tail.partition(".")

    def __call__(self, name: str, *, whole: bool = False) -> str | None:
        if name in self._stored or whole:
            return name if name in self._stored else None
        longer = self._by_tail.get(name, [])
        if len(longer) == 1:
            return longer[0]
        _, dot, tail = name.partition(".")
        while dot and "." in tail:
            if tail in self._stored:
                return tail
            _, dot, tail = tail.partition(".")
        return None
