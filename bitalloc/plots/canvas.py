"""Where pictures are drawn: figures, styles that work in grey, and units that people read."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.contract.errors import Fault, InvalidInputError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Style = Mapping[str, Any]

#: Endings of pictures.
_PICTURES = (".png", ".svg", ".pdf")

#: M. Okabe and K. Ito, "Color Universal Design", 2008, without its yellow, which white paper swallows.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#999999",
)
#: Methods that every picture draws alike.
STYLES: Mapping[str, Style] = {
    "uniform": {"color": GREY, "marker": "s", "linestyle": ":"},
    "greedy": {"color": ORANGE, "marker": "^", "linestyle": "--"},
    "bitalloc": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "exact": {"color": BLUE, "marker": "o", "linestyle": "-"},
}
#: A plan holds until the budget buys the next one; a straight line would promise what no plan delivers.
STEPS: Style = {"drawstyle": "steps-post"}
_OTHERS: Sequence[Style] = [
    {"color": color, "marker": marker, "linestyle": line}
    for color, marker, line in zip(
        (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, GREY),
        ("o", "D", "v", "P", "X", "<", "*"),
        ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 2))),
        strict=True,
    )
]
_STEPS: Mapping[str, Sequence[tuple[float, str]]] = {
    "byte": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "byte")),
    "us": ((1e6, "s"), (1e3, "ms"), (1.0, "µs")),
}


def new_axes(width: float = 8.0, height: float = 5.0) -> Axes:
    """Make a figure that no window system and no list of open figures knows of.

    Args:
        width: Width in inches.
        height: Height in inches.

    Returns:
        Its axes.

    Raises:
        MissingPackageError: matplotlib is not installed.

    Example:
        >>> axes = new_axes()
        >>> axes.get_lines()[:]
        []
    """
    require("matplotlib", "plot")
    # No pyplot: it would keep every figure alive and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def save(axes: Axes, path: Path) -> None:
    """Write the figure that axes are in.

    Args:
        path: File to write; its ending says what: PNG, SVG or PDF.

    Raises:
        InvalidInputError: It has another ending.
    """
    require_picture(path)
    figure = axes.get_figure(root=True)
    assert figure is not None
    drawn = io.BytesIO()  # a picture that cannot be drawn leaves no half a file
    figure.savefig(drawn, dpi=150, format=path.suffix[1:].lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(drawn.getvalue())


def require_picture(path: Path, field: str = "/path") -> None:
    """Make sure that a picture can be drawn under a name, before the work that it shows.

    Args:
        path: File to write.
        field: Where the name was given, for the message.

    Raises:
        InvalidInputError: Its ending is none of a picture.

    Example:
        >>> require_picture(Path("front.svg"))
    """
    if path.suffix.lower() not in _PICTURES:
        endings = ", ".join(_PICTURES)
        raise InvalidInputError(Fault(field, f"expected a name that ends in {endings}, got {str(path)!r}"))


def styled(names: Iterable[str]) -> dict[str, Style]:
    """Give every series a colour, a marker and a dash of its own.

    Args:
        names: Names of the series; methods that are known keep their style in every picture.

    Returns:
        Name to style.

    Example:
        >>> made = styled(["uniform", "fisher", "kl"])
        >>> [style["marker"] for style in made.values()]
        ['s', 'o', 'D']
    """
    free: Iterator[Style] = itertools.cycle(_OTHERS)
    return {name: STYLES[name] if name in STYLES else next(free) for name in names}


def readable(unit: str, amounts: Iterable[float]) -> tuple[float, str]:
    """Choose the unit in which amounts have few digits.

    Args:
        unit: Unit of the amounts; bytes and microseconds have larger ones, any other stays.
        amounts: What is drawn.

    Returns:
        What to divide by, and the name of the unit.

    Example:
        >>> readable("byte", [2.5e6, 9e6]), readable("bop", [1e12])
        ((1000000.0, 'MB'), (1.0, 'bop'))
    """
    largest = max(map(abs, amounts), default=0.0)
    steps = _STEPS.get(unit, ((1.0, unit),))
    return next((step for step in steps if largest >= step[0]), steps[-1])


def labelled(name: str, unit: str) -> str:
    """What stands at an axis.

    Args:
        name: Name of the table.
        unit: Its unit; empty where it has none.

    Returns:
        The label.

    Example:
        >>> labelled("latency_us", "µs"), labelled("effective_bits", "")
        ('latency_us (µs)', 'effective_bits')
    """
    return f"{name} ({unit})" if unit else name


def shortened(names: Sequence[str]) -> list[str]:
    """Leave out what all layer names begin with, up to a dot.

    Args:
        names: Layer names.

    Returns:
        The rest of each.

    Example:
        >>> shortened(["model.layers.0.q_proj", "model.layers.0.mlp.up_proj"])
        ['q_proj', 'mlp.up_proj']
    """
    parts = [name.split(".") for name in names]
    common = 0
    while all(len(part) > common + 1 for part in parts) and len({part[common] for part in parts}) == 1:
        common += 1
    return [".".join(part[common:]) for part in parts]


def shades(count: int) -> list[tuple[float, float, float]]:
    """Colours in an order that is the same in grey: dark to light.

    Args:
        count: How many.

    Returns:
        Red, green and blue of each, between 0 and 1, from matplotlib's cividis (J. Nuñez et al., 2018).
    """
    import matplotlib as mpl

    return [tuple(mpl.colormaps["cividis"](at)[:3]) for at in np.linspace(0.0, 1.0, count)]
