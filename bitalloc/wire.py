"""What goes over the wire, as service and client know it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from allocator import Allocation, Profile
from allocator import Request as PlanRequest
from allocator.contract.request import Amount
from allocator.contract.schema import Name, Strict
from bitalloc.problem_details import ProblemDetails

#: Digest of a profile.
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
#: Where an allocation is kept.
AllocationId = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
#: Most budgets in one call.
MOST_IN_A_BATCH = 1000


class ProfileRequest(PlanRequest):
    """A profile, and what is asked of it.

    Attributes:
        profile: The profile itself.
        profile_id: Digest of a stored profile, instead of the profile itself.
    """

    profile: Profile | None = None
    profile_id: Sha256 | None = None

    @model_validator(mode="after")
    def _one_profile(self) -> Self:
        if (self.profile is None) == (self.profile_id is None):
            got = "neither" if self.profile is None else "both"
            message = "expected a profile, or the profile_id of a stored one, got {got}"
            raise PydanticCustomError("inconsistent", message, {"got": got, "at": ("profile",)})
        return self


class AllocationRequest(ProfileRequest):
    """A profile, and the plan or plans that are wanted of it.

    Attributes:
        batch: Budgets of several plans, each on top of ``budgets``; the answer then holds one plan for each.
    """

    batch: (
        Annotated[tuple[dict[Name, Amount], ...], Field(min_length=1, max_length=MOST_IN_A_BATCH)] | None
    ) = None


class StoredAllocation(Allocation):
    """An allocation that the service keeps.

    Attributes:
        id: Where: ``/v1/allocations/{id}``.
    """

    id: str


class AllocationBatch(Strict):
    """One allocation for each entry of a batch.

    Attributes:
        allocations: In the order of the batch.
    """

    allocations: tuple[StoredAllocation, ...]


class AllocationEntry(Strict):
    """An allocation in a list.

    Attributes:
        id: Where: ``/v1/allocations/{id}``.
        profile_sha256: The profile it is about.
        status: The solver's status.
        version: Version of bitalloc that computed it.
        created_at: When, in seconds since 1970.
    """

    id: str
    profile_sha256: str
    status: str
    version: str
    created_at: float


class AllocationPage(Strict):
    """A page of allocations, newest first.

    Attributes:
        items: The allocations.
        next_cursor: Value of ``cursor`` for the page after this one; null at the end.
    """

    items: tuple[AllocationEntry, ...]
    next_cursor: str | None


class ProfileEntry(Strict):
    """A stored profile.

    Attributes:
        id: Its digest.
        model: Name of the model.
        layers: Number of layers.
        formats: Names of the formats.
        costs: Names of the cost tables.
        resources: Names of the resource tables.
        size_bytes: Length of its JSON.
        created_at: When it was stored, in seconds since 1970.
    """

    id: Sha256
    model: str
    layers: int
    formats: tuple[str, ...]
    costs: tuple[str, ...]
    resources: tuple[str, ...]
    size_bytes: int
    created_at: float


class ProfilePage(Strict):
    """A page of profiles, newest first.

    Attributes:
        items: The profiles.
        next_cursor: Value of ``cursor`` for the page after this one; null at the end.
    """

    items: tuple[ProfileEntry, ...]
    next_cursor: str | None


class JobProgress(Strict):
    """How far a solver has come.

    Attributes:
        objective: Of the best plan so far; null before the first.
        bound: No plan has a better objective; null where nothing is known yet.
        gap: Distance between the two, relative to the larger.
        seconds: Since this plan's search began.
        plan: Which plan of a batch it is, from 0.
        plans: How many there will be.
    """

    objective: float | None
    bound: float | None
    gap: float | None
    seconds: float
    plan: int
    plans: int


class JobDetails(Strict):
    """A plan that took, or takes, longer than its request waited.

    Attributes:
        id: Where: ``/v1/jobs/{id}``.
        state: Of the job; what the solver proved is the ``status`` of the allocation.
        created_at: When it became a job, in seconds since 1970.
        started_at: When a worker began; null while it is queued.
        ended_at: When it ended.
        progress: What its solver told last.
        allocations: Where the plans are, once it has succeeded.
        problem: Why it failed.
    """

    id: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    created_at: float
    started_at: float | None
    ended_at: float | None
    progress: JobProgress | None
    allocations: tuple[str, ...]
    problem: ProblemDetails | None


class JobPage(Strict):
    """A page of jobs, newest first.

    Attributes:
        items: The jobs.
        next_cursor: Value of ``cursor`` for the page after this one; null at the end.
    """

    items: tuple[JobDetails, ...]
    next_cursor: str | None
