"""What each choice of bits costs the model: model and data in, Profile out. Needs torch."""

from sensitivity.engines.recipe import Recipe
from sensitivity.estimators import ESTIMATORS
from sensitivity.estimators.entropy import entropy
from sensitivity.estimators.expert import expert
from sensitivity.estimators.fisher import fisher
from sensitivity.estimators.gauss_newton import gauss_newton
from sensitivity.estimators.hessian_trace import hessian_trace
from sensitivity.estimators.kl import kl
from sensitivity.estimators.lim import lim
from sensitivity.estimators.loss import loss
from sensitivity.estimators.lrp import lrp
from sensitivity.estimators.measured import measured
from sensitivity.estimators.output_mse import output_mse
from sensitivity.estimators.weight_error import weight_error
from sensitivity.estimators.zd import zd
from sensitivity.models.layers import discover
from sensitivity.plans.two_level import two_level_plan
from sensitivity.profiling.profile_model import profile_model
from sensitivity.profiling.profile_recipe import profile_recipe
from sensitivity.resources import RESOURCES
from sensitivity.resources.activation_bytes import activation_bytes
from sensitivity.resources.bops import bops
from sensitivity.resources.kv_bytes import kv_bytes
from sensitivity.resources.latency_table import latency_table
from sensitivity.resources.latency_us import latency_us
from sensitivity.resources.mac_bits import mac_bits
from sensitivity.resources.onnxruntime_kernels import onnxruntime_kernels
from sensitivity.resources.roofline import roofline
from sensitivity.resources.weight_bytes import weight_bytes
from sensitivity.study.input_moments import input_moments
from sensitivity.study.study import Estimator, Study
from sensitivity.units.unit_rules import UNITS

__all__ = [
    # measuring a model
    "ESTIMATORS",
    "RESOURCES",
    "UNITS",
    "Estimator",
    "Recipe",
    "Study",
    "discover",
    "input_moments",
    "profile_model",
    "profile_recipe",
    "two_level_plan",
    # estimators
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
    "weight_error",
    "zd",
    # resources
    "activation_bytes",
    "bops",
    "kv_bytes",
    "latency_table",
    "latency_us",
    "mac_bits",
    "onnxruntime_kernels",
    "roofline",
    "weight_bytes",
]
