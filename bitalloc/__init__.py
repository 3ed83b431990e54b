"""Which layer of a neural network gets how many bits: the front door.

Everything that programs import: ``from bitalloc import solve``. A name is loaded when it is asked for, so that
``import bitalloc`` is quick and needs neither torch nor the service.

>>> import bitalloc
>>> bitalloc.parse_format("int4-g64").group_size
64
"""
# ruff: noqa: F401 - the block for type checkers names what others use

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allocator import Allocation as Allocation
    from allocator import BitallocError as BitallocError
    from allocator import Certificate as Certificate
    from allocator import CertificateError as CertificateError
    from allocator import ContinuousPlan as ContinuousPlan
    from allocator import CostTable as CostTable
    from allocator import Explanation as Explanation
    from allocator import Fault as Fault
    from allocator import Format as Format
    from allocator import Frontier as Frontier
    from allocator import Fusion as Fusion
    from allocator import InvalidInputError as InvalidInputError
    from allocator import Layer as Layer
    from allocator import Limit as Limit
    from allocator import MissingPackageError as MissingPackageError
    from allocator import Profile as Profile
    from allocator import Provenance as Provenance
    from allocator import Request as Request
    from allocator import RequestFields as RequestFields
    from allocator import ResourceTable as ResourceTable
    from allocator import Stability as Stability
    from allocator import Status as Status
    from allocator import Surface as Surface
    from allocator import certify as certify
    from allocator import compare_tables as compare_tables
    from allocator import continuous_plan as continuous_plan
    from allocator import explain as explain
    from allocator import export_mps as export_mps
    from allocator import frontier as frontier
    from allocator import knee as knee
    from allocator import load_plan as load_plan
    from allocator import load_profile as load_profile
    from allocator import make_request as make_request
    from allocator import plan_after as plan_after
    from allocator import solve as solve
    from allocator import solve_many as solve_many
    from allocator import stability as stability
    from allocator import steps_within as steps_within
    from allocator import surface as surface
    from allocator import total as total
    from bitalloc.client import AsyncClient as AsyncClient
    from bitalloc.client import Client as Client
    from bitalloc.client import JobEvent as JobEvent
    from bitalloc.client import RetryPolicy as RetryPolicy
    from bitalloc.client import ServiceError as ServiceError
    from bitalloc.client import Side as Side
    from bitalloc.plots import new_axes as new_axes
    from bitalloc.plots import plot_comparison as plot_comparison
    from bitalloc.plots import plot_frontier as plot_frontier
    from bitalloc.plots import plot_fronts as plot_fronts
    from bitalloc.plots import plot_plan as plot_plan
    from bitalloc.plots import plot_plans as plot_plans
    from bitalloc.plots import plot_stability as plot_stability
    from bitalloc.plots import plot_surface as plot_surface
    from bitalloc.plots import save as save
    from bitalloc.service_process import running_server as running_server
    from quantize import BACKENDS as BACKENDS
    from quantize import FORMATS as FORMATS
    from quantize import Codec as Codec
    from quantize import Moments as Moments
    from quantize import Rounding as Rounding
    from quantize import StorageFormat as StorageFormat
    from quantize import apply as apply
    from quantize import formats_of as formats_of
    from quantize import own_format as own_format
    from quantize import parse_format as parse_format
    from quantize import register_format as register_format
    from quantize import round_trip as round_trip
    from quantize.exports import EXPORTS as EXPORTS
    from quantize.exports import export as export
    from quantize.exports import read as read_export
    from quantize.exports import read_files as read_files
    from quantize.exports import write as write_export
    from quantize.feedback import Measurement as Measurement
    from quantize.feedback import as_markdown as as_markdown
    from quantize.feedback import clock_beside as clock_beside
    from quantize.feedback import median_us as median_us
    from quantize.feedback import middle_plan as middle_plan
    from quantize.feedback import refine as refine
    from quantize.feedback import verify as verify
    from quantize.imports import IMPORTS as IMPORTS
    from quantize.imports import import_scores as import_scores
    from quantize.lint import RUNTIMES as RUNTIMES
    from quantize.lint import lint_files as lint_files
    from quantize.lint import lint_plan as lint
    from quantize.lint import model_of_folder as model_of_folder
    from quantize.lint import model_of_profile as model_of_profile
    from sensitivity import ESTIMATORS as ESTIMATORS
    from sensitivity import RESOURCES as RESOURCES
    from sensitivity import UNITS as UNITS
    from sensitivity import Recipe as Recipe
    from sensitivity import Study as Study
    from sensitivity import activation_bytes as activation_bytes
    from sensitivity import bops as bops
    from sensitivity import discover as discover
    from sensitivity import entropy as entropy
    from sensitivity import expert as expert
    from sensitivity import fisher as fisher
    from sensitivity import gauss_newton as gauss_newton
    from sensitivity import hessian_trace as hessian_trace
    from sensitivity import input_moments as input_moments
    from sensitivity import kl as kl
    from sensitivity import kv_bytes as kv_bytes
    from sensitivity import latency_table as latency_table
    from sensitivity import latency_us as latency_us
    from sensitivity import lim as lim
    from sensitivity import loss as loss
    from sensitivity import lrp as lrp
    from sensitivity import mac_bits as mac_bits
    from sensitivity import measured as measured
    from sensitivity import onnxruntime_kernels as onnxruntime_kernels
    from sensitivity import output_mse as output_mse
    from sensitivity import profile_model as profile_model
    from sensitivity import profile_recipe as profile_recipe
    from sensitivity import roofline as roofline
    from sensitivity import two_level_plan as two_level_plan
    from sensitivity import weight_bytes as weight_bytes
    from sensitivity import weight_error as weight_error
    from sensitivity import zd as zd
    from sensitivity.checkpoints.streaming import profile_checkpoint as profile_checkpoint
    from sensitivity.engines.journal import Journal as Journal
    from sensitivity.models.expert_stacks import split_experts as split_experts
    from sensitivity.plans.planned import Planned as Planned
    from sensitivity.plans.planned import distance_of_plans as distance_of_plans
    from sensitivity.pretrained.docstrings import docstring_pairs as docstring_pairs
    from sensitivity.pretrained.language_model import load_language_model as load_language_model
    from sensitivity.pretrained.language_model import logits as logits
    from sensitivity.pretrained.language_model import next_token_loss as next_token_loss
    from sensitivity.pretrained.retrieval import RetrievalTask as RetrievalTask
    from sensitivity.pretrained.text_encoder import cosine_distance as cosine_distance
    from sensitivity.pretrained.text_encoder import encode as encode
    from sensitivity.pretrained.text_encoder import info_nce as info_nce
    from sensitivity.pretrained.text_encoder import load_text_encoder as load_text_encoder
    from sensitivity.pretrained.text_encoder import minilm_folder as minilm_folder
    from sensitivity.pretrained.text_encoder import pair_batches as pair_batches
    from sensitivity.pretrained.text_export import export_encoder as export_encoder
    from sensitivity.pretrained.text_export import onnx_encoder as onnx_encoder
    from sensitivity.profiling.encoder_profile import EXCLUDED as EXCLUDED
    from sensitivity.profiling.encoder_profile import profile_encoder as profile_encoder
    from sensitivity.profiling.progress import Bars as Bars
    from sensitivity.resources import Spent as Spent
    from sensitivity.resources import device_names as device_names
    from sensitivity.resources import load_device as load_device

#: Modules and their names, by topic. ``ours=theirs`` where a name is too short to stand alone.
_GROUPS = (
    # what is planned, and what is asked
    (
        "allocator",
        "Profile Layer Format CostTable ResourceTable Fusion Provenance Request RequestFields Limit "
        "load_profile make_request",
    ),
    # plans and trade-offs
    (
        "allocator",
        "solve solve_many frontier surface continuous_plan explain stability compare_tables certify "
        "total knee plan_after steps_within export_mps",
    ),
    # answers
    (
        "allocator",
        "Allocation Certificate ContinuousPlan Explanation Frontier Stability Status Surface load_plan",
    ),
    # errors
    ("allocator", "BitallocError CertificateError Fault InvalidInputError MissingPackageError"),
    # the service
    ("bitalloc.client", "AsyncClient Client JobEvent RetryPolicy ServiceError Side"),
    ("bitalloc.service_process", "running_server"),
    # pictures
    (
        "bitalloc.plots",
        "new_axes plot_comparison plot_frontier plot_fronts plot_plan plot_plans plot_stability "
        "plot_surface save",
    ),
    # plans made real
    ("quantize", "BACKENDS Moments Rounding StorageFormat apply formats_of parse_format round_trip"),
    ("quantize", "FORMATS Codec own_format register_format"),
    ("quantize.exports", "EXPORTS export read_files read_export=read write_export=write"),
    ("quantize.lint", "RUNTIMES lint=lint_plan lint_files model_of_folder model_of_profile"),
    ("quantize.imports", "IMPORTS import_scores"),
    ("quantize.feedback", "Measurement as_markdown clock_beside median_us middle_plan refine verify"),
    # what each choice costs a model
    (
        "sensitivity",
        "ESTIMATORS RESOURCES UNITS Recipe Study discover input_moments profile_model profile_recipe "
        "two_level_plan",
    ),
    ("sensitivity.profiling.encoder_profile", "EXCLUDED profile_encoder"),
    ("sensitivity.checkpoints.streaming", "profile_checkpoint"),
    ("sensitivity.engines.journal", "Journal"),
    ("sensitivity.profiling.progress", "Bars"),
    ("sensitivity.plans.planned", "Planned distance_of_plans"),
    # estimators
    (
        "sensitivity",
        "entropy expert fisher gauss_newton hessian_trace kl lim loss lrp measured output_mse "
        "weight_error zd",
    ),
    # resources
    (
        "sensitivity",
        "activation_bytes bops kv_bytes latency_table latency_us mac_bits onnxruntime_kernels "
        "roofline weight_bytes",
    ),
    ("sensitivity.resources", "Spent device_names load_device"),
    # models of text
    (
        "sensitivity.pretrained.text_encoder",
        "cosine_distance encode info_nce load_text_encoder minilm_folder pair_batches",
    ),
    ("sensitivity.pretrained.text_export", "export_encoder onnx_encoder"),
    ("sensitivity.pretrained.language_model", "load_language_model logits next_token_loss"),
    ("sensitivity.pretrained.docstrings", "docstring_pairs"),
    ("sensitivity.pretrained.retrieval", "RetrievalTask"),
    ("sensitivity.models.expert_stacks", "split_experts"),
)
_HOME = {
    name: (module, attribute or name)
    for module, names in _GROUPS
    for name, _, attribute in (item.partition("=") for item in names.split())
}
__all__ = list(_HOME)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]


if not TYPE_CHECKING:  # else a misspelt name would have a type

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(_unknown(name), name=name)
        module, attribute = _HOME[name]
        _require_ours(module.partition(".")[0])
        return getattr(import_module(module), attribute)


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = " or ".join(map(repr, get_close_matches(name, _HOME)))
    return f"module 'bitalloc' has no attribute {name!r}" + (f"; did you mean {near}?" if near else "")


def _require_ours(room: str) -> None:
    # Programs have their own folder first on the path, and may have a quantize.py there.
    spec = find_spec(room)
    found = spec.origin if spec is not None else None
    if found is None or Path(found).resolve().parents[1] != Path(__file__).resolve().parents[1]:
        raise ImportError(
            f"expected bitalloc's own package {room!r}, got {found}, which hides it; rename that, or run the program "
            "with python -P",
            name=room,
        )
