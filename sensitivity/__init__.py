"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.estimators import (
    ESTIMATORS,
    entropy,
    expert,
    fisher,
    gauss_newton,
    hessian_trace,
    kl,
    lim,
    loss,
    lrp,
    measured,
    output_mse,
    relevance,
    weight_error,
    zd,
)
from sensitivity.input_moments import input_moments
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
    "expert",
    "fisher",
    "gauss_newton",
    "hessian_trace",
    "input_moments",
    "kl",
    "lim",
    "loss",
    "lrp",
    "measured",
    "output_mse",
    "profile_model",
    "profile_recipe",
    "relevance",
    "two_level_plan",
    "weight_error",
    "zd",
]
