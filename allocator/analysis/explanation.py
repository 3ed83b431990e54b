"""What an explanation holds; see :func:`allocator.analysis.explain.explain`."""

from __future__ import annotations

from typing import Literal

from allocator.analysis.stability import Stability
from allocator.contract.allocation import Allocation, Reach
from allocator.contract.schema import Strict


class Move(Strict):
    """A change of one unit, and what it does to the plan's sums.

    Attributes:
        changes: Layer to the format it would get.
        objective: Change of the objective.
        spend: Name of a budget or limit to the change of what is spent of it.
        rate: What the objective gains (upgrade) or loses (downgrade) per unit of spend; with several limits per share
            of their ranges; absent for upgrades that spend nothing, which only plans without proof have.
    """

    changes: dict[str, str]
    objective: float
    spend: dict[str, float]
    rate: float | None = None


class Option(Strict):
    """A format that a layer could have.

    Attributes:
        format: Its name.
        chosen: Whether the plan has it.
        objective: What it adds to the objective, all layers of its unit together; absent where it is ruled out.
        spend: What it adds to each budget and limit, likewise.
        reduced_cost: How much worse it is than the layer's best option at the shadow prices.
        best_with: Objective of the best plan in which the layer has this format; a bound on it where time ran out.
        verdict: ``chosen``; ``ruled out`` by tables, pins or lists; ``impossible`` within the limits; ``worse`` or
            ``as good``, proved of every plan with it; ``open`` where time ran out; ``beaten`` by another way to fuse
            and format the same layers, which is at least as good in everything that counts.
    """

    format: str
    chosen: bool
    objective: float | None = None
    spend: dict[str, float] = {}
    reduced_cost: float | None = None
    best_with: float | None = None
    verdict: Literal["chosen", "ruled out", "impossible", "worse", "as good", "open", "beaten"]


class Reason(Strict):
    """Why a layer got its format.

    Attributes:
        layer: The layer.
        together: The layers that share its choice, itself included.
        options: All formats.
    """

    layer: str
    together: tuple[str, ...]
    options: tuple[Option, ...]


class Baseline(Strict):
    """What a simple rule reaches within the same limits.

    Attributes:
        objective: Its objective; absent where it finds no plan.
        difference: How much worse that is than the plan, in the objective's own unit; below zero where it is better.
        worse_by: The same relative to the plan's objective, 1.2 for 2.2 times a cost; absent where the plan's objective
            is zero or below, of which there is no share.
    """

    objective: float | None = None
    difference: float | None = None
    worse_by: float | None = None


class Conflict(Strict):
    """Why no plan exists.

    Attributes:
        relaxations: Budgets and limits that make a plan possible when they alone give way to ``nearest_above`` or
            ``nearest_below``, which is just enough; the smallest relative change first. Those where time ran out before
            that was known are not among them.
        together: Budgets, limits, pins and lists that cannot all be kept, as pointers into the request; leaving out
            any one of them makes the others possible.
        minimal: Whether the last was proved before time ran out; else some of them may not be needed.
    """

    relaxations: dict[str, Reach]
    together: tuple[str, ...]
    minimal: bool


class Explanation(Strict):
    """An allocation and the reasons for it.

    Attributes:
        allocation: The plan with its proof; its ``usage`` holds the shadow prices.
        next_upgrade: The change that buys most per unit of spend, whether or not the budgets allow it.
        next_downgrade: The change that gives up least per unit of spend.
        reasons: For the layers that were asked about, in their order.
        baselines: ``uniform`` and ``greedy`` within the same limits.
        conflict: For infeasible requests.
        stability: Where resamples were asked for.
        left_out: Parts that the time limit left no time for, by name.
    """

    allocation: Allocation
    next_upgrade: Move | None = None
    next_downgrade: Move | None = None
    reasons: tuple[Reason, ...] = ()
    baselines: dict[str, Baseline] = {}
    conflict: Conflict | None = None
    stability: Stability | None = None
    left_out: tuple[str, ...] = ()
