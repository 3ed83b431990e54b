"""How often a client tries again, and how long it waits before."""

from __future__ import annotations

from dataclasses import dataclass

import httpx2

#: Answers that say: not now.
_LATER = frozenset({429, 503})


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        attempts: How often a call is made at most.
        first_pause_s: Wait before the second attempt; each later one is twice as long.
        longest_pause_s: No wait is longer, whatever the service asks for.
    """

    attempts: int = 5
    first_pause_s: float = 0.1
    longest_pause_s: float = 10.0

    def pause_s(self, attempt: int, outcome: httpx2.Response | Exception) -> float | None:
        """Decide what to do after an attempt.

        Args:
            attempt: How many attempts were made, from 1.
            outcome: The answer, or why there is none.

        Returns:
            Seconds to wait before the next one; None where the outcome stands.

        Example:
            >>> RetryPolicy().pause_s(3, httpx2.Response(503)), RetryPolicy().pause_s(1, httpx2.Response(422))
            (0.4, None)
        """
        if attempt >= self.attempts or not _passing(outcome):
            return None
        pause_s = self.first_pause_s * 2.0 ** (attempt - 1)
        if isinstance(outcome, httpx2.Response):
            asked = outcome.headers.get("retry-after", "")
            pause_s = max(pause_s, float(asked)) if asked.isdigit() else pause_s
        return min(pause_s, self.longest_pause_s)


def _passing(outcome: httpx2.Response | Exception) -> bool:
    if isinstance(outcome, httpx2.Response):
        in_flight = outcome.status_code == 409 and b"idempotency-key-in-flight" in outcome.content
        return in_flight or outcome.status_code in _LATER
    # A service that is slow is not asked again: it would only have more to do. One that hung up died, or is about to.
    hung_up = isinstance(outcome, httpx2.RemoteProtocolError) and "disconnected" in str(outcome)
    return hung_up or isinstance(outcome, httpx2.NetworkError)
