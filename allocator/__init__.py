"""Which layer gets how many bits: pure numbers, Profile in, certified Allocation out.

Never imports torch; optional solvers are imported when they are asked for.
"""

from allocator.analysis.explain import explain, explain_request
from allocator.analysis.explanation import Baseline, Conflict, Explanation, Move, Option, Reason
from allocator.analysis.stability import LayerStability, Stability, stability
from allocator.analysis.table_comparison import compare_tables
from allocator.answer.certificate import certify, total
from allocator.answer.solve import solve, solve_request
from allocator.contract.allocation import Allocation, Certificate, Reach, SolverReport, Usage, load_plan
from allocator.contract.errors import (
    BitallocError,
    CertificateError,
    Fault,
    InvalidInputError,
    MissingPackageError,
)
from allocator.contract.identity import ModelIdentity
from allocator.contract.note import Note
from allocator.contract.outside import Outside
from allocator.contract.profile import (
    CostTable,
    Format,
    Fusion,
    Layer,
    Profile,
    Provenance,
    ResourceTable,
    load_profile,
)
from allocator.contract.request import Limit, Request, RequestFields, make_request
from allocator.contract.status import Status
from allocator.knapsack.mps import MpsModel, export_mps
from allocator.solvers import SOLVERS
from allocator.tradeoff.continuous_plan import ContinuousPlan, continuous_plan
from allocator.tradeoff.frontier import Frontier, frontier, knee, plan_after, steps_within
from allocator.tradeoff.surface import Surface, surface
from allocator.tradeoff.sweep import solve_many, sweep

__all__ = [
    # the contract
    "CostTable",
    "Format",
    "Fusion",
    "Layer",
    "Limit",
    "ModelIdentity",
    "Outside",
    "Profile",
    "Provenance",
    "Request",
    "RequestFields",
    "ResourceTable",
    "load_plan",
    "load_profile",
    "make_request",
    # solving
    "SOLVERS",
    "continuous_plan",
    "export_mps",
    "solve",
    "solve_request",
    "solve_many",
    "sweep",
    # trade-offs
    "Frontier",
    "Surface",
    "frontier",
    "knee",
    "plan_after",
    "steps_within",
    "surface",
    # the answer
    "Allocation",
    "Certificate",
    "ContinuousPlan",
    "MpsModel",
    "Note",
    "Reach",
    "SolverReport",
    "Status",
    "Usage",
    "certify",
    "total",
    # reasons
    "Baseline",
    "Conflict",
    "Explanation",
    "LayerStability",
    "Move",
    "Option",
    "Reason",
    "Stability",
    "compare_tables",
    "explain",
    "explain_request",
    "stability",
    # errors
    "BitallocError",
    "CertificateError",
    "Fault",
    "InvalidInputError",
    "MissingPackageError",
]
