r"""How far rounding moves a layer's weights: the table that needs neither data nor gradients.

.. math:: c_{l,f} = \lVert Q_f(W_l) - W_l \rVert_2^2
          \qquad\text{or, relative,}\qquad
          \frac{\lVert Q_f(W_l) - W_l \rVert_2^2}{\lVert W_l \rVert_2^2}

The absolute error favours layers with many or large weights whatever the model makes of them; the relative one treats
all layers alike. Both are baselines, and the error that importances are multiplied with
(:func:`sensitivity.tables.compose.scaled`).

Source: the unweighted objective of H. Guo et al., "LQ-LoRA", ICLR 2024, section 3.2.
"""

from __future__ import annotations

from allocator import CostTable
from sensitivity.curvature.rounding_error import squared_errors
from sensitivity.relevance.relative_error import weight_errors
from sensitivity.study.study import Study, require_layers_only, table


def weight_error(study: Study, *, relative: bool = False) -> CostTable:
    """Fill the table from the weights alone.

    Args:
        study: Layers and formats; the data is not looked at.
        relative: Divide by the sum of squares of the layer's weights; a layer of zeros has no error.

    Returns:
        (L, F) without standard errors: nothing is random.
    """
    require_layers_only(study, "weight_error")
    if relative:
        meaning = "squared rounding error as a share of the squared weights of the layer"
        return table(weight_errors(study), None, meaning, comparable="one_kind")
    meaning = "squared rounding error, summed over the weights of the layer"
    return table(squared_errors(study), None, meaning, comparable="one_kind")
