"""Exported files run like the model, know their layers and say nothing about this machine."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError, MissingPackageError
from quantize.backends.onnxruntime.export import LAYERS_KEY, export_onnx
from tests.quantize.models import TOKENS, Tokens, exported
from tests.quantize.onnx_reading import plain_weight

EXAMPLE = {"tokens": torch.tensor([[1, 2, 3], [4, 5, 6]])}
AXES = {"tokens": {0: "batch", 1: "length"}}


class Partial(nn.Module):
    """One layer takes part, one does not, and one is a convolution, which the file's reader cannot look up."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 16)
        self.conv = nn.Conv1d(16, 4, 1)
        self.idle = nn.Linear(16, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.conv(self.embed(tokens).transpose(1, 2))
        return result


def test_the_file_runs_like_the_model_on_other_sizes(tokens_file: Path) -> None:
    session = onnxruntime.InferenceSession(os.fspath(tokens_file), providers=["CPUExecutionProvider"])
    model = Tokens().eval()
    for tokens in (TOKENS, TOKENS[:1, :1], np.tile(TOKENS, (3, 7))):
        (ours,) = session.run(["output"], {"tokens": tokens})
        with torch.no_grad():
            theirs = model(torch.from_numpy(tokens)).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_file_names_the_nodes_of_each_layer(tokens_file: Path) -> None:
    graph = onnx.load(tokens_file)
    (entry,) = (item for item in graph.metadata_props if item.key == LAYERS_KEY)
    names, model = json.loads(entry.value), Tokens()
    assert sorted(names) == ["down", "embed", "up"]
    for layer, nodes in names.items():
        (node,) = nodes
        assert np.array_equal(
            plain_weight(tokens_file, node), model.get_submodule(layer).weight.detach().numpy()
        )


def test_no_path_of_this_machine_and_no_source_line_is_in_the_file(tokens_file: Path) -> None:
    content = tokens_file.read_bytes()
    for trace in (
        os.getcwd(),
        sys.prefix,
        os.path.expanduser("~"),
        "site-packages",
        "tests",
        "models.py",
        "self.",
    ):
        assert trace.encode() not in content
    assert re.search(rb"[\w/]+\.py\b", content) is None
    assert re.search(rb"line \d+", content) is None


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = Tokens()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    exported(model, tmp_path / "model.onnx", ["up"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_the_output_has_the_name_that_was_asked_for_and_the_logger_its_level(tmp_path: Path) -> None:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        path = export_onnx(
            Tokens().eval(), EXAMPLE, tmp_path / "new" / "m.onnx", layers=[], dynamic=AXES, output="said"
        )
        assert logger.level == logging.CRITICAL
    finally:
        logger.setLevel(before)
    assert [item.name for item in onnx.load(path).graph.output] == ["said"]


def test_layers_that_do_not_occur_in_the_graph_are_refused_and_an_earlier_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")
    detail = "/layers/idle: no node of the exported graph computes with its weight; leave it out"
    with pytest.raises(InvalidInputError, match=detail) as caught:
        exported(Partial(), path, ["embed", "idle", "conv"])
    assert [fault.pointer for fault in caught.value.faults] == ["/layers/idle"]
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_layers_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="upp"):
        exported(Tokens(), tmp_path / "model.onnx", ["upp"])


def test_inputs_whose_dimensions_do_not_vary_need_not_be_named(tmp_path: Path) -> None:
    path = export_onnx(Tokens().eval(), EXAMPLE, tmp_path / "fixed.onnx", layers=["up"], dynamic={})
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [2, 3]


def test_exporting_does_not_warn(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_onnx(Tokens().eval(), EXAMPLE, tmp_path / "quiet.onnx", layers=["up"], dynamic=AXES)
    assert [str(item.message) for item in caught] == []


@pytest.mark.parametrize(("missing", "named"), [("onnx", "onnx"), ("onnxscript", "onnxscript")])
def test_without_onnx_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, named: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        MissingPackageError, match=rf"{named} is needed here .* pip install 'bitalloc\[onnx\]'"
    ):
        exported(Tokens(), tmp_path / "model.onnx", ["up"])
    assert os.listdir(tmp_path) == []
