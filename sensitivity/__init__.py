"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.estimators import ESTIMATORS, fisher, hessian_trace, measured
from sensitivity.layers import discover
from sensitivity.profile_model import profile_model
from sensitivity.profile_recipe import profile_recipe
from sensitivity.recipe import Recipe
from sensitivity.study import Estimator, Study

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Recipe",
    "Study",
    "discover",
    "fisher",
    "hessian_trace",
    "measured",
    "profile_model",
    "profile_recipe",
]
