"""What a worker keeps at hand: the profiles that it parsed last, and what planning with them begins with."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from allocator import Allocation, Profile, Request, load_profile
from allocator.answer.solve import SolveProgress
from allocator.tradeoff.sweep import Planner, planner
from api.workers.json_body import JsonLimits

#: Table entries of all profiles kept, some 200 MB of Python objects.
_MOST_ENTRIES = 4_000_000
#: Kinds of requests for which a profile is kept compiled: same pins and budgets of the same names, say.
_MOST_PLANNERS = 4
Tell = Callable[[SolveProgress], None]


@dataclass
class _Kept:
    profile: Profile
    entries: int
    planners: OrderedDict[str, Planner]


class ProfileCache:
    """Parsed profiles by digest, the least recently used dropped first."""

    def __init__(self, most_entries: int = _MOST_ENTRIES) -> None:
        self._most_entries = most_entries
        self._profiles: OrderedDict[str, _Kept] = OrderedDict()

    def find(self, sha256: str) -> Profile | None:
        """Return a profile, if it is here."""
        if sha256 not in self._profiles:
            return None
        self._profiles.move_to_end(sha256)
        return self._profiles[sha256].profile

    def keep(self, sha256: str, profile: Profile) -> None:
        """Put a profile here."""
        tables = len(profile.costs) + len(profile.resources) + 1
        entries = tables * len(profile.layers) * len(profile.formats)
        self._profiles[sha256] = _Kept(profile, entries, OrderedDict())
        while len(self._profiles) > 1 and self._weight() > self._most_entries:
            self._profiles.popitem(last=False)

    def solve(self, sha256: str, request: Request, tell: Tell | None = None) -> Allocation:
        """Plan with a profile that is here; what such requests share is done once.

        Args:
            tell: Told of better plans and bounds.

        Returns:
            The allocation.
        """
        kept = self._profiles[sha256]
        shared = request.model_dump_json(exclude={"budgets", "gap", "time_limit_s"})
        kind = f"{sorted(request.budgets)} {shared}"
        plan = kept.planners.pop(kind, None) or planner(kept.profile, request)
        kept.planners[kind] = plan
        if len(kept.planners) > _MOST_PLANNERS:
            kept.planners.popitem(last=False)
        return plan(request, tell)

    def _weight(self) -> int:
        return sum(kept.entries * (1 + len(kept.planners)) for kept in self._profiles.values())


@dataclass(frozen=True)
class TaskContext:
    """One task as its function sees it.

    Attributes:
        body: The body of the request, as it came.
        options: What else there is to know.
        limits: What the body may hold.
        profiles: Profiles at hand.
        tell: Sends progress to the service.
        fetch: Asks the service for a profile: given its digest and whether it is at hand, gives its gzipped JSON.
        fetch_allocation: Asks the service for an allocation by its id; gives its gzipped JSON.
    """

    body: bytes
    options: Mapping[str, Any]
    limits: JsonLimits
    profiles: ProfileCache
    tell: Callable[[Mapping[str, Any]], None]
    fetch: Callable[[str, bool], bytes]
    fetch_allocation: Callable[[str], bytes]

    def profile(self, sha256: str) -> Profile:
        """Get a stored profile; the service is asked each time whether the caller may use it.

        Returns:
            The profile.
        """
        known = self.profiles.find(sha256)
        body = self.fetch(sha256, known is not None)
        if known is None:
            known = load_profile(gzip.decompress(body))
            self.profiles.keep(sha256, known)
        return known
