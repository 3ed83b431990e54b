"""What takes long is made once: files named after the content of everything they are made from."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from allocator import Fault, InvalidInputError
from quantize.storage.files import replacing
from sensitivity.study.calibration import digest

_FOLDER = Path(__file__).parents[2] / ".cache" / "bitalloc-zoo"


def cached(name: str, suffix: str, ingredients: object, write: Callable[[Path], None]) -> Path:
    """Find a file, or make it where it is not there yet.

    Args:
        name: What the file holds, for people.
        suffix: Its ending.
        ingredients: Everything its content depends on: nested tensors, numbers and texts.
        write: Writes it; a file appears whole or not at all.

    Returns:
        Its path, in ``$BITALLOC_CACHE`` or else in ``.cache/bitalloc-zoo`` at the root of the repository.
    """
    folder = Path(os.environ.get("BITALLOC_CACHE") or _FOLDER)
    path = folder / f"{name}-{digest(ingredients)[:16]}{suffix}"
    if not path.exists():
        with replacing(path) as unfinished:
            write(unfinished)
    return path


def train_once(name: str, model: nn.Module, train: partial[None]) -> None:
    """Train a model, or give it the weights that the same training gave before.

    The file is keyed by the initial weights, the structure of the model, the training function, its arguments (data and
    settings) and the version of torch. The model is in evaluation mode afterwards.

    Args:
        model: The model, initialised; changed in place.
        train: A function of the model, with everything else bound by keyword.

    Raises:
        InvalidInputError: The file is there but cannot be read.
    """
    recipe = [source(train.func), train.keywords, torch.__version__]

    def write(path: Path) -> None:
        with one_thread():
            train(model)
        save_model(model, str(path))

    path = cached(name, ".safetensors", [repr(model), dict(model.state_dict()), *recipe], write)
    try:
        load_model(model, path)
    except SafetensorError as error:
        detail = f"cannot read the trained weights ({error}); delete the file and they are trained again"
        raise InvalidInputError(Fault(str(path), detail)) from error
    model.eval()


def source(function: Callable[..., object]) -> str:
    """The code of a function, whatever its layout and comments.

    Args:
        function: A function that is defined in a file.

    Returns:
        Normalised text.
    """
    return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread for a while.

    Sums then do not depend on the number of cores, and on a busy machine small models train several times faster.

    Yields:
        Nothing; the number of threads is back at the end.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's own generator, for initialisations that take no other.

    Yields:
        Nothing; the generator is as it was at the end.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
