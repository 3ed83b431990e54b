"""Which layer gets how many bits: pure numbers, Profile in, certified Allocation out.

Never imports torch; optional solvers are imported when they are asked for.
"""

from allocator.allocation import Allocation, Certificate, Reach, SolverReport, Usage
from allocator.certificate import certify, total
from allocator.convex_plan import ContinuousPlan, continuous_plan
from allocator.errors import BitallocError, CertificateError, Fault, InvalidInputError, MissingPackageError
from allocator.explain import explain, explain_request
from allocator.explanation import Baseline, Conflict, Explanation, Move, Option, Reason
from allocator.frontier import Frontier, frontier, knee, plan_after, steps_within
from allocator.mps import MpsModel, export_mps
from allocator.profile import (
    CostTable,
    Format,
    Fusion,
    Layer,
    Profile,
    Provenance,
    ResourceTable,
    load_profile,
)
from allocator.request import Limit, Request, make_request
from allocator.solve import solve, solve_request
from allocator.solvers import SOLVERS
from allocator.stability import LayerStability, Stability, stability
from allocator.status import Status
from allocator.surface import Surface, surface
from allocator.sweep import solve_many, sweep

__all__ = [
    # the contract
    "CostTable",
    "Format",
    "Fusion",
    "Layer",
    "Limit",
    "Profile",
    "Provenance",
    "Request",
    "ResourceTable",
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
