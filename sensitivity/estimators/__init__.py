"""Estimators by name. To add one: write ``sensitivity/estimators/<name>.py`` and list its function here."""

from sensitivity.estimators.fisher import fisher
from sensitivity.estimators.hessian_trace import hessian_trace
from sensitivity.estimators.lrp import lrp, relevance
from sensitivity.estimators.measured import measured
from sensitivity.study import Estimator

__all__ = ["ESTIMATORS", "fisher", "hessian_trace", "lrp", "measured", "relevance"]

#: Estimators that need nothing but a study.
ESTIMATORS: dict[str, Estimator] = {
    "hessian_trace": hessian_trace,
    "fisher": fisher,
    "lrp": lrp,
}
