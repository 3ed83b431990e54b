"""Measurements that flow back: apply a plan, measure it, correct the tables, solve again.

``refine`` finds the plan that measures best within the budgets, ``verify`` holds a plan against the usual baselines.
"""

from quantize.feedback.clock import clock_beside, middle_plan
from quantize.feedback.latency import median_us
from quantize.feedback.measurement import Assignment, Measure, Measurement
from quantize.feedback.refined import Refined, Trial
from quantize.feedback.refinement import refine
from quantize.feedback.verification import Verification, as_markdown, verify

__all__ = [
    "Assignment",
    "Measure",
    "Measurement",
    "Refined",
    "Trial",
    "Verification",
    "as_markdown",
    "clock_beside",
    "median_us",
    "middle_plan",
    "refine",
    "verify",
]
