"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.estimators import (
    ESTIMATORS,
    entropy,
    fisher,
    hessian_trace,
    lim,
    lrp,
    measured,
    relevance,
    zd,
)
from sensitivity.layers import discover
from sensitivity.profile_model import profile_model
from sensitivity.profile_recipe import profile_recipe
from sensitivity.recipe import Recipe
from sensitivity.resources import RESOURCES
from sensitivity.study import Estimator, Study
from sensitivity.two_level import two_level_plan
from sensitivity.units import UNITS

__all__ = [
    "ESTIMATORS",
    "RESOURCES",
    "UNITS",
    "Estimator",
    "Recipe",
    "Study",
    "discover",
    "entropy",
    "fisher",
    "hessian_trace",
    "lim",
    "lrp",
    "measured",
    "profile_model",
    "relevance",
    "two_level_plan",
    "zd",
    "profile_recipe",
]
