"""``Prefer: wait=…`` and ``respond-async`` (RFC 7240): how long a request waits before it becomes a job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from api.routes.resources import Shared

_WAIT = re.compile(r'^wait\s*=\s*"?(\d{1,6})"?$', re.IGNORECASE)


@dataclass(frozen=True)
class Wait:
    """How long to wait for an answer.

    Attributes:
        seconds: The wait.
        applied: For ``Preference-Applied``; empty where nothing was preferred.
    """

    seconds: float
    applied: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What to tell the client of it."""
        return {"preference-applied": self.applied} if self.applied else {}


def preferred_wait(header: str, usual_s: float, most_s: float) -> Wait:
    """Read the header ``Prefer``; what cannot be read is ignored, as RFC 7240 has it.

    Args:
        usual_s: The wait where none is preferred.

    Returns:
        The wait.

    Example:
        >>> preferred_wait("respond-async, wait=100", 5.0, 60.0)
        Wait(seconds=60.0, applied='wait=60')
        >>> preferred_wait("handling=lenient", 5.0, 60.0)
        Wait(seconds=5.0, applied='')
    """
    # RFC 7240, section 4.3: with both, the service goes asynchronous once the wait is over.
    wait, asynchronous = None, False
    for preference in re.split(r"[,;]", header):
        if found := _WAIT.match(preference.strip()):
            wait = wait if wait is not None else int(found[1])
        asynchronous = asynchronous or preference.strip().lower() == "respond-async"
    if wait is not None:
        return Wait(min(float(wait), most_s), f"wait={min(wait, int(most_s))}")
    return Wait(0.0, "respond-async") if asynchronous else Wait(usual_s)


async def _wait(
    shared: Shared,
    prefer: Annotated[
        str,
        Header(
            description="`wait=10`: seconds to wait for the plan; `respond-async`: none.", max_length=1000
        ),
    ] = "",
) -> Wait:
    return preferred_wait(prefer, shared.settings.wait_s, shared.settings.max_wait_s)


Preferred = Annotated[Wait, Depends(_wait)]
