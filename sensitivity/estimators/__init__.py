"""Estimators by name. To add one: write ``sensitivity/estimators/<name>.py`` and list its function here."""

from allocator.contract.registry import Registry
from sensitivity.estimators import fisher, hessian_trace, lim, loss, lrp, output_mse, weight_error, zd
from sensitivity.study.study import Estimator

#: Estimators that need nothing but a study.
ESTIMATORS = Registry[Estimator](
    "estimator",
    {
        "hessian_trace": hessian_trace.hessian_trace,
        "fisher": fisher.fisher,
        "lrp": lrp.lrp,
        "lim": lim.lim,
        "zd": zd.zd,
        "output_mse": output_mse.output_mse,
        "loss": loss.loss,
        "weight_error": weight_error.weight_error,
    },
    pointer="/estimators",
)
