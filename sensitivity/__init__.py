"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.engines.recipe import Recipe
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
from sensitivity.models.layers import discover
from sensitivity.plans.two_level import two_level_plan
from sensitivity.profiling.profile_model import profile_model
from sensitivity.profiling.profile_recipe import profile_recipe
from sensitivity.resources import RESOURCES
from sensitivity.rows.units import UNITS
from sensitivity.study.input_moments import input_moments
from sensitivity.study.study import Estimator, Study

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
