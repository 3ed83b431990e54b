"""Estimators by name. To add one: write ``sensitivity/estimators/<name>.py`` and list its function here."""

from sensitivity.estimators.entropy import entropy
from sensitivity.estimators.fisher import fisher
from sensitivity.estimators.hessian_trace import hessian_trace
from sensitivity.estimators.lim import lim
from sensitivity.estimators.lrp import lrp, relevance
from sensitivity.estimators.measured import measured
from sensitivity.estimators.zd import zd
from sensitivity.study import Estimator

__all__ = ["ESTIMATORS", "entropy", "fisher", "hessian_trace", "lim", "lrp", "measured", "relevance", "zd"]

#: Estimators that need nothing but a study.
ESTIMATORS: dict[str, Estimator] = {
    "hessian_trace": hessian_trace,
    "fisher": fisher,
    "lrp": lrp,
    "lim": lim,
    "zd": zd,
}
