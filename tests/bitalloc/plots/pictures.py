"""What pictures show, read back from their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb


def lines(axes: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def points(line: Any) -> list[tuple[float, float]]:
    return list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))


def words(labels: Sequence[Any]) -> list[str]:
    return [label.get_text() for label in labels]


def luminance(color: Any) -> float:
    """How light a colour is in grey, from 0 to 1 (ITU-R BT.709 on linear light)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def lightness(color: Any) -> float:
    """How light a colour looks in grey, from 0 to 100 (CIE 1976 L*)."""
    share = luminance(color)
    return 116 * share ** (1 / 3) - 16 if share > (6 / 29) ** 3 else share * (29 / 3) ** 3


def drawn(axes: Axes) -> int:
    """Number of different colours in the rendered figure: an empty one has very few."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    return len(np.unique(pixels.reshape(-1, 4), axis=0))
