"""Pictures of answers, as matplotlib axes: for notebooks, the command line, the demo and documents alike.

Every function takes ``axes`` to draw into, or makes a figure of its own without pyplot, and returns the axes. Colours
are from the Okabe-Ito palette, or from cividis where they have an order; markers, dashes, hatches and words say the
same thing in grey.
"""

from bitalloc.plots.canvas import new_axes, save
from bitalloc.plots.comparison import plot_comparison
from bitalloc.plots.frontier import plot_frontier, plot_fronts
from bitalloc.plots.plan import plot_plan, plot_plans
from bitalloc.plots.stability import plot_stability
from bitalloc.plots.surface import plot_surface

__all__ = [
    "new_axes",
    "plot_comparison",
    "plot_frontier",
    "plot_fronts",
    "plot_plan",
    "plot_plans",
    "plot_stability",
    "plot_surface",
    "save",
]
