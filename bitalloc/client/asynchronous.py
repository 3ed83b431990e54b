"""The asynchronous client; ``.ci/blocking_client.py`` writes ``blocking.py`` from this file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx2

from allocator.contract.allocation import PlanSource
from allocator.contract.profile import ProfileSource
from allocator.contract.request import Amount, RequestFields
from allocator.knapsack.tables import WEIGHT_BYTES
from bitalloc.client import flows, plans
from bitalloc.client.errors import ServiceError, refuse
from bitalloc.client.events import Follower, JobEvent
from bitalloc.client.flows import Call, Flow
from bitalloc.client.plans import ExportFields, LintFields
from bitalloc.client.retry_policy import RetryPolicy
from bitalloc.operations import ComparisonAnswer, ExportAnswer, FrontierAnswer, LintAnswer, Side
from bitalloc.wire import JobDetails, ProfileEntry, StoredAllocation

#: A solve may take as long as the service allows; connecting may not.
TIMEOUT = httpx2.Timeout(120.0, connect=5.0)
T = TypeVar("T")


class AsyncClient:
    """Talk to a service; use it as an asynchronous context manager.

    A profile is whatever :func:`~allocator.contract.profile.load_profile` takes; a plan is an allocation, the id of
    one that the service
    keeps, or whatever :func:`~allocator.contract.allocation.load_plan` takes. ``fields`` are those of
    :class:`~allocator.contract.request.Request`. Methods
    raise :class:`~allocator.contract.errors.InvalidInputError` for what cannot be used, with pointers as the library
    has them, and :class:`~bitalloc.client.errors.ServiceError` where the service cannot be reached or fails.

    Args:
        base_url: Where the service listens, for example ``http://127.0.0.1:8000``.
        api_key: Key of the service, where it has keys.
        retry_policy: When to try again.
        timeout: Seconds for connecting, reading and writing; generous for long solves by default.
        transport: Replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        retry_policy: RetryPolicy | None = None,
        timeout: httpx2.Timeout | float = TIMEOUT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._http = httpx2.AsyncClient(
            base_url=base_url, headers=headers, timeout=timeout, transport=transport
        )
        self._retry_policy = retry_policy or RetryPolicy()

    async def allocate(self, profile: ProfileSource, **fields: Unpack[RequestFields]) -> StoredAllocation:
        """Plan a model; the profile is sent only if the service lacks it.

        Returns:
            The allocation; ``status`` may be ``infeasible``.
        """
        return await self._run(flows.allocate(profile, fields))

    async def allocate_batch(
        self,
        profile: ProfileSource,
        batch: Sequence[Mapping[str, Amount]],
        **fields: Unpack[RequestFields],
    ) -> tuple[StoredAllocation, ...]:
        """Plan a model for several budgets in one call.

        Returns:
            One allocation for each entry of ``batch``, whose budgets come on top of the field ``budgets``.
        """
        return await self._run(flows.allocate_batch(profile, batch, fields))

    async def frontier(
        self,
        profile: ProfileSource,
        resource: str = WEIGHT_BYTES,
        points: int | Sequence[Amount] = 0,
        **fields: Unpack[RequestFields],
    ) -> FrontierAnswer:
        """Show the whole trade-off between the objective and a resource.

        Args:
            resource: What is traded: a resource, a cost, or ``effective_bits``.
            points: Exact plans: how many at equal distances over the whole range, or at which budgets.
            **fields: What else is asked.

        Returns:
            The front.
        """
        return await self._run(flows.frontier(profile, resource, points, fields))

    async def allocation(self, identifier: str) -> StoredAllocation:
        """Return a plan that the service keeps."""
        return await self._run(flows.plan(f"/v1/allocations/{identifier}"))

    async def export(self, plan: PlanSource, target: str, **fields: Unpack[ExportFields]) -> ExportAnswer:
        """Write a plan in a tool's own format.

        Returns:
            The files, and what they cannot say.
        """
        return await self._run(plans.export(plan, target, fields))

    async def lint(self, plan: PlanSource | None, runtime: str, **fields: Unpack[LintFields]) -> LintAnswer:
        """Say whether a runtime would load a plan, or files that any tool wrote.

        Args:
            plan: The plan; None for files.
            runtime: Who is to load it.
            **fields: ``model`` (shapes and ties), or ``files``, ``format`` and ``names``.

        Returns:
            The findings.
        """
        return await self._run(plans.lint(plan, runtime, fields))

    async def compare(
        self,
        profile: ProfileSource,
        first: Side | PlanSource,
        second: Side | PlanSource,
        **fields: Unpack[RequestFields],
    ) -> ComparisonAnswer:
        """Lay two plans, or the plans that two objectives lead to, side by side.

        Args:
            first: A plan, or a ``Side`` with the objective to plan for.
            second: The other one.
            **fields: For the sides that are planned.

        Returns:
            The comparison.
        """
        return await self._run(plans.compare(profile, first, second, fields))

    async def upload(self, profile: ProfileSource) -> ProfileEntry:
        """Return the entry under which the service has stored a profile."""
        return await self._run(flows.upload(profile))

    async def submit(self, profile: ProfileSource, **fields: Unpack[RequestFields]) -> JobDetails:
        """Plan a model as a job, without waiting for it.

        Returns:
            The job.
        """
        return await self._run(flows.submit(profile, fields))

    async def job(self, identifier: str) -> JobDetails:
        """Return a job as it is now."""
        return await self._run(flows.job(identifier))

    async def cancel(self, identifier: str) -> JobDetails:
        """Cancel a job; its solver is killed.

        Returns:
            The job.
        """
        return await self._run(flows.job(identifier, "DELETE"))

    async def events(self, identifier: str, after: int = 0) -> AsyncIterator[JobEvent]:
        """Follow a job to its end, across lost connections.

        Args:
            identifier: Its id.
            after: Number of the last event that is known already.

        Yields:
            What its solver tells; the last event has the job as it ended.
        """
        follower = Follower(after)
        attempt = 0
        while not follower.ended:
            try:
                async with self._http.stream(
                    "GET", f"/v1/jobs/{identifier}/events", headers=follower.headers
                ) as stream:
                    if not stream.is_success:
                        await stream.aread()
                        refuse(stream)
                    async for line in stream.aiter_lines():
                        event = follower.read(line)
                        if event is not None:
                            attempt = 0
                            yield event
            except httpx2.HTTPError as error:
                attempt += 1
                await self._wait_or_give_up(attempt, error)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        answer: httpx2.Response | None = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Call):
                answer = await self._sent(step)
            else:
                await asyncio.sleep(step.seconds)
                answer = None

    async def _sent(self, call: Call) -> httpx2.Response:
        attempt = 1
        while True:
            try:
                response = await self._http.request(
                    call.method, call.path, content=call.content, headers=dict(call.headers)
                )
            except httpx2.HTTPError as error:
                await self._wait_or_give_up(attempt, error)
            else:
                pause_s = self._retry_policy.pause_s(attempt, response)
                if pause_s is None:
                    return response
                await asyncio.sleep(pause_s)
            attempt += 1

    async def _wait_or_give_up(self, attempt: int, error: httpx2.HTTPError) -> None:
        pause_s = self._retry_policy.pause_s(attempt, error)
        if pause_s is None:
            raise ServiceError(f"the service could not be reached: {error}") from error
        await asyncio.sleep(pause_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
