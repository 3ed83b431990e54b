"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.estimators import ESTIMATORS, fisher, hessian_trace, lrp, measured, relevance
from sensitivity.layers import discover
from sensitivity.profile_model import profile_model
from sensitivity.study import Estimator, Study

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Study",
    "discover",
    "fisher",
    "hessian_trace",
    "lrp",
    "measured",
    "profile_model",
    "relevance",
]
