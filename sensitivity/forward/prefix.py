"""Measuring one changed layer without recomputing what comes before it.

Whatever finished before the changed layer first runs gives what it gave with the original weights, so its output is
kept and replayed; the numbers are the same bit for bit. What is replayed are the largest modules that had finished:
whole blocks, and inside the block of the layer its earlier parts. The order is the one seen in a pass of the original
model. A module that runs more than once, changes its inputs in place, or returns something other than new tensors is
never replayed; its parts may be.

A module that changes the model behind the back of its inputs and outputs (a cache on an attribute that a later module
reads) cannot be noticed and must not be measured this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

_MISSING = object()


class _EnoughError(BaseException):
    """Ends a pass once all that is wanted from it has been kept; no model catches it by accident."""


@dataclass(frozen=True, eq=False)
class _Run:
    """What a module did in one pass; times count the starts and ends of modules.

    Attributes:
        starts: When it started.
        ends: When it ended.
        new: Whether what it gave was new tensors, for each end.
        sizes: Bytes of what it gave, for each end.
        inputs: Tensors that went in, with their versions, while it runs.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    new: list[bool] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    inputs: list[tuple[Tensor, int]] = field(default_factory=list)


class Prefix:
    """Outputs of the modules of a model that ran before a layer, batch by batch."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._runs: dict[int, dict[nn.Module, _Run]] = {}
        self._kept: dict[int, dict[nn.Module, Any]] = {}

    @contextmanager
    def tracing(self, batch: int) -> Iterator[None]:
        """Note which module runs when, during a pass of the original model without gradients.

        Args:
            batch: Index of the batch.

        Yields:
            Nothing; hooks are gone at the end.
        """
        runs: dict[nn.Module, _Run] = {module: _Run() for module in self._model.modules()}
        self._runs[batch], self._kept[batch] = runs, {}
        clock = iter(range(10**9))
        handles = []

        def enter(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            run = runs[module]
            run.starts.append(next(clock))
            run.inputs[:] = [(item, _version(item)) for item in _tensors((args, kwargs))]

        def leave(module: nn.Module, _: object, output: object) -> None:
            run = runs[module]
            run.ends.append(next(clock))
            run.new.append(_is_new(output, run.inputs))
            run.sizes.append(sum(item.numel() * item.element_size() for item in _tensors(output)))
            run.inputs.clear()

        try:
            for module in runs:
                handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(module.register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def prepare(self, changing: Sequence[nn.Module], batch: int, run: Callable[[], object]) -> None:
        """Keep what has to be replayed while some modules change, and forget the rest.

        Args:
            changing: The modules that will compute differently; until then the model is the original one.
            batch: Index of the batch, traced before.
            run: Runs the model on the batch.
        """
        wanted = self._finished_before(changing, batch)
        before = self._kept[batch]
        # What is no longer wanted must run again: wanted parts of it have to be seen.
        self._kept[batch] = {module: before[module] for module in wanted if module in before}
        missing = set(wanted) - before.keys()
        if missing:
            self._collect(missing, batch, run)

    def kept_bytes(self, changing: Sequence[nn.Module], batch: int) -> int:
        """How much :meth:`prepare` keeps.

        Args:
            changing: The modules that will compute differently.
            batch: Index of the batch, traced before.

        Returns:
            Bytes.
        """
        runs = self._runs[batch]
        return sum(runs[module].sizes[0] for module in self._finished_before(changing, batch))

    @contextmanager
    def replaying(self, batch: int) -> Iterator[None]:
        """Let what was prepared answer from memory.

        Args:
            batch: Index of the batch.

        Yields:
            Nothing; all modules compute again at the end.
        """
        kept = self._kept[batch]
        originals = {module: module.__dict__.get("forward", _MISSING) for module in kept}
        try:
            for module, output in kept.items():
                module.forward = _answer(output)
            yield
        finally:
            for module, original in originals.items():
                module.__dict__.pop("forward", None)
                if original is not _MISSING:
                    module.__dict__["forward"] = original

    def _finished_before(self, changing: Sequence[nn.Module], batch: int) -> list[nn.Module]:
        runs = self._runs[batch]
        starts = [start for module in changing for start in runs[module].starts]
        if not starts:
            return []
        found: list[nn.Module] = []
        waiting, seen = [self._model], set[nn.Module]()
        while waiting:
            module = waiting.pop()
            if module in seen:
                continue
            seen.add(module)
            run = runs[module]
            once = len(run.starts) == len(run.ends) == 1
            if once and run.ends[0] < min(starts) and run.new[0]:
                found.append(module)
            elif not (run.starts and run.starts[0] > min(starts)):
                waiting.extend(module.children())
        return found

    def _collect(self, missing: set[nn.Module], batch: int, run: Callable[[], object]) -> None:
        kept = self._kept[batch]
        left = set(missing)
        handles = []

        def keep(module: nn.Module, _: object, output: object) -> None:
            kept[module] = _copied(output)
            left.discard(module)
            if not left:
                raise _EnoughError

        try:
            with self.replaying(batch):
                for module in missing:
                    handles.append(module.register_forward_hook(keep))
                run()
        except _EnoughError:
            pass
        finally:
            for handle in handles:
                handle.remove()


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _is_new(output: object, before: list[tuple[Tensor, int]]) -> bool:
    if not _is_plain(output) or any(_version(item) != version for item, version in before):
        return False
    try:
        inputs = {item.untyped_storage().data_ptr() for item, _ in before}
        return all(item.untyped_storage().data_ptr() not in inputs for item in _tensors(output))
    except NotImplementedError:  # inside a loss function that is vectorised by torch.vmap
        return False


def _is_plain(output: object) -> bool:
    if type(output) is tuple:
        return all(_is_plain(item) for item in output)
    return output is None or isinstance(output, Tensor)


def _copied(output: object) -> object:
    # Whatever runs later may change the tensor in place.
    if isinstance(output, Tensor):
        return output.clone()
    return tuple(map(_copied, output)) if isinstance(output, tuple) else output


def _answer(output: object) -> Callable[..., object]:
    def forward(*_: object, **__: object) -> object:
        return _copied(output)

    return forward
