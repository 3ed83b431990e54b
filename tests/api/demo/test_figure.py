"""The picture: drawn for real, and looked at through its axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from allocator import Profile, load_profile
from api.demo.figure import draw_frontier
from api.demo.report import Report, Row

BUDGETS = (2.5, 3.25, 4.25, 6.0)
DISTANCES = {"uniform": 0.9, "greedy": 0.6, "bitalloc": 0.5}


def _profile(layers: int = 12) -> Profile:
    rng = np.random.default_rng(0)
    bits = np.array([2.0, 3.0, 4.0, 8.0, 16.0])
    parameters = rng.integers(20_000, 200_000, layers)
    cost = rng.lognormal(size=(layers, 1)) * 4.0**-bits
    return load_profile(
        {
            "formats": {f"int{width:g}": {"weight_bits": width} for width in bits},
            "layers": [{"name": f"layer.{i}", "parameters": int(n)} for i, n in enumerate(parameters)],
            "costs": {"embedding_distance": {"values": cost.tolist()}},
            "resources": {
                "weight_bytes": {"values": np.ceil(parameters[:, None] * bits / 8).tolist(), "unit": "byte"}
            },
        }
    )


def _report() -> Report:
    common: dict[str, Any] = {
        "predicted": 0.1,
        "gap": 0.0,
        "recall_at_1": 0.9,
        "mrr": 0.9,
        "latency_ratio": 1.0,
    }
    rows = [
        Row(
            budget_bits=bits,
            method=method,  # type: ignore[arg-type]
            backend=backend,  # type: ignore[arg-type]
            used_bits=bits,
            weight_bytes=round(bits * 100_000),
            distance=factor * 4.0**-bits,
            **common,
        )
        for bits in reversed(BUDGETS)
        for backend, methods in (("torchao", DISTANCES), ("onnxruntime", {"bitalloc": 0.55}))
        for method, factor in methods.items()
    ]
    return Report(
        model="a model",
        rows=tuple(rows),
        original_recall_at_1=1.0,
        original_mrr=1.0,
        fp32_file_bytes=1,
        fp32_latency_ms=1.0,
        seconds={},
        findings=(),
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Axes]:
    """The file, and the axes that were saved into it."""
    path = tmp_path_factory.mktemp("figure") / "frontier.png"
    saved: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        save = Figure.savefig

        def remember(figure: Figure, *arguments: Any, **options: Any) -> None:
            saved.append(figure)
            save(figure, *arguments, **options)

        patch.setattr(Figure, "savefig", remember)
        draw_frontier(_report(), _profile(), path)
    (axes,) = saved[0].axes
    return path, axes


def _line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def test_the_file_is_a_png_of_1200_by_750_pixels_with_something_on_it(drawn: tuple[Path, Axes]) -> None:
    with Image.open(drawn[0]) as image:
        assert image.format == "PNG"
        assert image.size == (1200, 750)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000) or []) > 50


@pytest.mark.parametrize(
    ("label", "factor"), [*DISTANCES.items(), ("bitalloc, ONNX Runtime 2/4/8", 0.55)], ids=str
)
def test_every_measured_point_is_drawn_from_small_to_large(
    drawn: tuple[Path, Axes], label: str, factor: float
) -> None:
    sizes, distances = _line(drawn[1], label)
    assert sizes == pytest.approx([bits / 10 for bits in BUDGETS])
    assert distances == pytest.approx([factor * 4.0**-bits for bits in BUDGETS])


def test_the_prediction_falls_from_the_smallest_plan_to_the_widest_integers(
    drawn: tuple[Path, Axes],
) -> None:
    sizes, costs = _line(drawn[1], "bitalloc, predicted by the table")
    columns = np.array(_profile().resources["weight_bytes"].values, dtype=float).sum(axis=0)
    assert len(sizes) == 60
    assert sizes[0] == pytest.approx(columns[0] / 1e6)
    assert sizes[-1] == pytest.approx(columns[-2] / 1e6, rel=0.02)
    assert (np.diff(sizes) >= 0).all()
    assert (np.diff(costs) <= 0).all()


def test_drawing_leaves_no_state_in_pyplot(tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    draw_frontier(_report(), _profile(3), tmp_path / "frontier.png")
    assert pyplot.get_fignums() == before
