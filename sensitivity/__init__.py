"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.estimators import (
    ESTIMATORS,
    expert,
    fisher,
    gauss_newton,
    hessian_trace,
    kl,
    loss,
    measured,
    output_mse,
    weight_error,
)
from sensitivity.layers import discover
from sensitivity.profile_model import profile_model
from sensitivity.study import Estimator, Study

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Study",
    "discover",
    "expert",
    "fisher",
    "gauss_newton",
    "hessian_trace",
    "kl",
    "loss",
    "measured",
    "output_mse",
    "profile_model",
    "weight_error",
]
