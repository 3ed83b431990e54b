"""Estimators by name. To add one: write ``sensitivity/estimators/<name>.py`` and list its function here."""

from sensitivity.estimators.entropy import entropy
from sensitivity.estimators.expert import expert
from sensitivity.estimators.fisher import fisher
from sensitivity.estimators.gauss_newton import gauss_newton
from sensitivity.estimators.hessian_trace import hessian_trace
from sensitivity.estimators.kl import kl
from sensitivity.estimators.lim import lim
from sensitivity.estimators.loss import loss
from sensitivity.estimators.lrp import lrp, relevance
from sensitivity.estimators.measured import measured
from sensitivity.estimators.output_mse import output_mse
from sensitivity.estimators.weight_error import weight_error
from sensitivity.estimators.zd import zd
from sensitivity.study.study import Estimator

__all__ = [
    "ESTIMATORS",
    "entropy",
    "expert",
    "fisher",
    "gauss_newton",
    "hessian_trace",
    "kl",
    "lim",
    "loss",
    "lrp",
    "measured",
    "output_mse",
    "relevance",
    "weight_error",
    "zd",
]

#: Estimators that need nothing but a study.
ESTIMATORS: dict[str, Estimator] = {
    "hessian_trace": hessian_trace,
    "fisher": fisher,
    "lrp": lrp,
    "lim": lim,
    "zd": zd,
    "output_mse": output_mse,
    "loss": loss,
    "weight_error": weight_error,
}
