"""NNCF's ``compress_weights`` on MiniLM, converted to OpenVINO; runs in NNCF's environment.

It chooses between two precisions: layers are sorted by a metric, and the least sensitive get the lower precision until
they hold the share of parameters that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from benchmarks.peers.question import Answer, Question, reply
from quantize import parse_format
from sensitivity.pretrained.text_encoder import load_text_encoder, minilm_folder, pair_batches

#: Its default with data first.
METRICS = (
    "max_activation_variance",
    "mean_activation_variance",
    "mean_activation_magnitude",
    "hessian_input_activation",
    "weight_quantization_error",
)
_WITHOUT_DATA = ("weight_quantization_error",)


def mode(name: str) -> str:
    """Name NNCF's mode for a format of ours.

    Args:
        name: A symmetric integer format.

    Returns:
        The mode.

    Example:
        >>> mode("int4-g64")
        'INT4_SYM'
    """
    return f"INT{parse_format(name).bits}_SYM"


def plan_of(constants: Iterable[tuple[str, str]], formats: Sequence[str]) -> dict[str, str]:
    """Read a plan from the weights of a compressed graph.

    Args:
        constants: Name and element type of each constant, such as ``i4``; symmetric modes of 2 and 3 bits are stored
            without a sign.
        formats: The formats that were asked for, of different bits.

    Returns:
        Layer → format, for weights that are stored as integers.

    Example:
        >>> plan_of([("self.up.weight", "u2"), ("self.down.weight", "i8")], ["int2-g64", "int8"])
        {'up': 'int2-g64', 'down': 'int8'}
    """
    names = {parse_format(name).bits: name for name in formats}
    return {
        name.removeprefix("self.").removesuffix(".weight"): names[int(kind[1:])]
        for name, kind in constants
        if name.endswith(".weight") and kind[0] in "iu"
    }


def answer(question: Question) -> Answer:
    """Ask NNCF.

    Args:
        question: Of two formats, the lower with groups and the higher without; budgets are shares of parameters in the
            lower.

    Returns:
        Its plans; it does not tell its scores.
    """
    import nncf
    import openvino

    low, high = question.formats
    model, tokenizer = load_text_encoder(minilm_folder(), max_tokens=48)
    batches = [dict(batch) for batch in pair_batches(tokenizer, question.pairs, 16)]
    graph = openvino.convert_model(model, example_input=batches[0])
    data = nncf.Dataset([{name: values.numpy() for name, values in batch.items()} for batch in batches])
    plans: dict[str, list[dict[str, str]]] = {}
    for metric in METRICS:
        for share in question.asked:
            compressed = nncf.compress_weights(
                graph.clone(),
                mode=nncf.CompressWeightsMode[mode(low)],
                backup_mode=nncf.BackupMode[mode(high)],
                ratio=share,
                group_size=parse_format(low).group_size,
                all_layers=True,
                dataset=None if metric in _WITHOUT_DATA else data,
                sensitivity_metric=nncf.SensitivityMetric[metric.upper()],
                ignored_scope=nncf.IgnoredScope(patterns=[".*embeddings.*"]),
                subset_size=len(batches),
            )
            plans.setdefault(metric, []).append(plan_of(_constants(compressed), question.formats))
    return Answer(plans)


def _constants(graph: Any) -> Iterable[tuple[str, str]]:  # noqa: ANN401
    for node in graph.get_ops():
        if node.get_type_name() == "Constant":
            yield node.get_friendly_name(), node.get_element_type().get_type_name()


if __name__ == "__main__":
    torch.set_num_threads(1)
    reply("nncf", answer)
