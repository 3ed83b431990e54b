"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.estimators import ESTIMATORS, fisher, hessian_trace, measured
from sensitivity.layers import discover
from sensitivity.profile_model import profile_model
from sensitivity.resources import RESOURCES
from sensitivity.study import Estimator, Study
from sensitivity.units import UNITS

__all__ = [
    "ESTIMATORS",
    "RESOURCES",
    "UNITS",
    "Estimator",
    "Study",
    "discover",
    "fisher",
    "hessian_trace",
    "measured",
    "profile_model",
]
