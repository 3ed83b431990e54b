"""Plans of a sentence encoder timed on ONNX Runtime while they are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantize.feedback import Measurement
    from sensitivity.pretrained.text_encoder import TextEncoder, Tokenizer


@contextmanager
def timed(
    loss: Callable[[Mapping[str, str]], float],
    encoder: TextEncoder,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    reference: Mapping[str, str],
) -> Iterator[Callable[[Mapping[str, str]], Measurement]]:
    """Give plans a clock: the longest text alone, one thread, in turns with a plan that stays the same.

    Args:
        loss: Plan → how far it moves the encoder.
        texts: Texts to choose from.
        reference: The plan to time others beside; names every layer that a plan may name.

    Yields:
        Plan → loss and microseconds.

    Raises:
        InvalidInputError: ONNX Runtime has no kernel for a format of a plan.
        MissingPackageError: onnx or onnxruntime is not installed.
    """
    from quantize import apply
    from quantize.backends.onnxruntime.latency import times_in_turns_us
    from quantize.feedback import Measurement, clock_beside
    from quantize.feedback.measurement import digest
    from sensitivity.pretrained.text_export import export_encoder

    tokens = tokenizer([max(texts, key=len)])
    feeds = {name: tensor.numpy() for name, tensor in tokens.items()}
    with tempfile.TemporaryDirectory() as folder:
        source = export_encoder(encoder, tokenizer, Path(folder) / "source.onnx", list(reference))

        def times_us(plans: Sequence[Mapping[str, str]]) -> list[float]:
            paths = [Path(folder) / f"{digest(plan)}.onnx" for plan in plans]
            for plan, path in zip(plans, paths, strict=True):
                if not path.exists():
                    apply(source, dict(plan), "onnxruntime", path=path)
            found = times_in_turns_us(paths, feeds)
            for plan, path in zip(plans, paths, strict=True):
                if plan != reference:
                    path.unlink(missing_ok=True)
            return found

        clock = clock_beside(times_us, reference)
        yield lambda plan: Measurement(loss(plan), latency_us=clock(plan))
