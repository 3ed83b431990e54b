"""Relevance of a convolutional network against zennit, which lives in an environment of its own.

zennit imports torchvision, whose wheel from PyPI breaks transformers where it is next to a CPU build of torch. The
environment borrows the torch of this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sensitivity import discover
from sensitivity.curvature.gradients import requiring_grad
from sensitivity.relevance.propagation import propagating
from sensitivity.relevance.rules import ATTN_LRP
from tests.conftest import ROOT
from tests.sensitivity import zennit_relevance

ZENNIT = "0.5.1"
PACKAGES = (f"zennit=={ZENNIT}", "torchvision==0.28.0", "pillow")
EPSILON = 1e-7


@pytest.fixture(scope="module")
def zennit_python() -> Path:
    """The interpreter of an environment with zennit; made once, under an ignored folder."""
    folder = ROOT / "out" / "environments" / f"zennit-{ZENNIT}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / "ready").exists():
        venv.create(folder, clear=True)
        query = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        packages = Path(subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip())
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", *PACKAGES]
        done = subprocess.run(pip, check=False, capture_output=True, text=True)
        if done.returncode:
            assert "after connection broken by" in done.stderr, done.stderr
            pytest.skip(f"PyPI cannot be reached: {done.stderr.strip().splitlines()[-1]}")
        (folder / "ready").touch()
    return python


@pytest.mark.long
def test_relevance_of_a_convolutional_network_is_that_of_zennit(zennit_python: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = zennit_relevance.Network().double().eval()
    for tensor in (
        network.norm.running_mean,
        network.norm.running_var,
        network.norm.weight,
        network.norm.bias,
    ):
        torch.nn.init.uniform_(tensor, 0.5, 1.5)
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    torch.save({"state": network.state_dict(), "images": images}, tmp_path / "in.pt")
    script = [zennit_python, zennit_relevance.__file__, tmp_path / "in.pt", tmp_path / "out.pt", str(EPSILON)]
    subprocess.run(script, check=True, cwd=tmp_path)
    theirs: dict[str, Any] = torch.load(tmp_path / "out.pt")

    layers = discover(network)
    with (
        requiring_grad(network, ()),
        propagating(network, layers, replace(ATTN_LRP, epsilon=EPSILON)) as trace,
    ):
        network(images)[:, 0].sum().backward(inputs=[*trace.sources, *(item for _, item in trace.outputs)])
    # A layer's relevance is that at its activation, which hands it through; batch normalisation comes in between
    # for the first layer, where zennit merges it, so that only the images tell.
    ours = {layers[index].name: item.detach() * item.grad for index, item in trace.outputs}
    ours["images"] = trace.sources[0].detach() * trace.sources[0].grad
    for name, found in {"images": "images", "inner": "inner_act", "last": "last_act"}.items():
        assert theirs[found].abs().max() > 1e-3
        torch.testing.assert_close(ours[name], theirs[found], rtol=1e-4, atol=1e-6)
