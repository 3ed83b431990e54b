"""How the search for a proof goes on: its steps, in order, until the plan is proved or time is up.

Mostly few plans are within reach of the bound. Where they are too many, dominance keeps the states few under one limit,
and a MIP may need few nodes under several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class MeetInTheMiddle:
    """Two halves of the plans within reach of the bound that meet in the middle.

    Attributes:
        most_states: Most states in a half.
    """

    most_states: int


@dataclass(frozen=True)
class States:
    """A pass of the expanding core.

    Attributes:
        most_states: How many states it keeps.
    """

    most_states: int


@dataclass(frozen=True)
class Nodes:
    """A MIP on the core.

    Attributes:
        most_nodes: Branch-and-bound nodes; None for as many as it takes.
    """

    most_nodes: int | None = None


@dataclass(frozen=True)
class Branches:
    """Branch and bound until nothing is left."""


@dataclass(frozen=True)
class WholeCosts:
    """Round a bound up where costs are integers, which proves a plan but not that no other costs the same."""


@dataclass(frozen=True)
class WithoutIdleSides:
    """Solve without the side of each band that has no price: it costs nothing where the plan keeps it anyway."""


@dataclass(frozen=True)
class WithoutIdleLimits:
    """Solve without all limits that have no price; of equally good plans the lightest is then not known."""


Step: TypeAlias = (
    MeetInTheMiddle | States | Nodes | Branches | WholeCosts | WithoutIdleSides | WithoutIdleLimits
)


@dataclass(frozen=True)
class Strategy:
    """The steps of a search.

    Attributes:
        one_limit: For problems with one limit.
        several_limits: For problems with more.
    """

    one_limit: tuple[Step, ...] = (
        MeetInTheMiddle(2_000),
        States(3_000),
        WholeCosts(),
        MeetInTheMiddle(20_000),
        States(3_000_000),
        Nodes(500),
        Branches(),
    )
    several_limits: tuple[Step, ...] = (
        WithoutIdleSides(),
        MeetInTheMiddle(20_000),
        WithoutIdleLimits(),
        MeetInTheMiddle(1_000_000),
        States(500),
        Nodes(500),
        Branches(),
    )

    def steps(self, limits: int) -> tuple[Step, ...]:
        """Choose the steps for a problem.

        Args:
            limits: How many it has.

        Returns:
            The steps, in order.
        """
        return self.one_limit if limits == 1 else self.several_limits

    def after(self, step: WithoutIdleSides | WithoutIdleLimits) -> Strategy:
        """The steps for a problem that had limits left out: sides first, then others, and none twice.

        Args:
            step: The step that left them out.

        Returns:
            The strategy.
        """
        done = (WithoutIdleSides, type(step))
        return Strategy(self.one_limit, tuple(s for s in self.several_limits if not isinstance(s, done)))


DEFAULT = Strategy()
#: For a plan that a MIP solver found.
PROOF = Strategy(
    one_limit=tuple(step for step in DEFAULT.one_limit if not isinstance(step, Nodes)),
    several_limits=(WithoutIdleSides(), MeetInTheMiddle(20_000), WithoutIdleLimits(), Branches()),
)
