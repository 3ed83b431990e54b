"""The service's end of one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from api.errors import WorkerCrashedError, WorkerOverrunError
from api.settings import Settings
from api.workers.failure import error_of
from api.workers.frames import framed, receive
from api.workers.json_body import JsonLimits
from api.workers.task import Done, OnProgress, Task

#: Bytes that the reader holds before the worker has to wait.
_BUFFER_BYTES = 2**20


@dataclass(frozen=True)
class Child:
    """A worker process, which does one task at a time.

    Attributes:
        process: The process; it leads a group of its own.
    """

    process: asyncio.subprocess.Process

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.returncode is None

    async def work(self, task: Task, limit_s: float, on_progress: OnProgress | None = None) -> Done:
        """Let it do a task; after any exception but those about the input it is dead or has to be killed.

        Args:
            limit_s: Seconds that the task may take.
            on_progress: Told what the task reports on its way.

        Returns:
            What came back.

        Raises:
            WorkerOverrunError: The task took too long.
            WorkerCrashedError: The process ended.
        """
        try:
            async with asyncio.timeout(limit_s):
                return await self._converse(task, on_progress)
        except TimeoutError as error:
            raise WorkerOverrunError(f"{task.name} took longer than {limit_s:g} s and was killed") from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            code = await self.process.wait()
            raise WorkerCrashedError(f"the worker ended with {code} in the middle of {task.name}") from error

    async def _converse(self, task: Task, on_progress: OnProgress | None) -> Done:
        assert self.process.stdout is not None
        await self._send({"task": task.name, "options": task.options}, task.body)
        refusal: Exception | None = None
        while True:
            head, parts = await receive(self.process.stdout)
            if "done" in head:
                return Done(head["done"], tuple(parts))
            if "progress" in head:
                if on_progress is not None:
                    on_progress(head["progress"])
            elif "failed" not in head:
                try:
                    await self._send({}, await _stored(task, head))
                except Exception as error:  # the worker unwinds first, then the caller hears of it
                    refusal = error
                    await self._send({"refused": True})
            else:
                raise refusal if head["failed"] == "refused" and refusal is not None else error_of(head)

    async def _send(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(framed(head, [body]))
        await self.process.stdin.drain()

    async def kill(self) -> None:
        """End it with everything that it started, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


async def start_child(settings: Settings) -> Child:
    """Start a worker and wait until it is ready.

    Args:
        settings: Its memory, its plugins, the limits of bodies.

    Returns:
        The worker.

    Raises:
        WorkerCrashedError: It ended before it was ready.
    """
    options = json.dumps(
        {
            "memory_bytes": settings.worker_memory_bytes,
            "plugins": settings.plugins,
            "limits": {field.name: getattr(settings, field.name) for field in fields(JsonLimits)},
        }
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "api.workers.worker", options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Solvers with threads of their own would fight over the cores that other workers have.
        env={"OMP_NUM_THREADS": "1", **os.environ},
        start_new_session=True,
        limit=_BUFFER_BYTES,
    )
    child = Child(process)
    assert process.stdout is not None
    try:
        await receive(process.stdout)
    except asyncio.IncompleteReadError as error:
        code = await process.wait()
        raise WorkerCrashedError(f"a worker ended with {code} before it was ready") from error
    except BaseException:
        await child.kill()
        raise
    return child


async def _stored(task: Task, head: Mapping[str, Any]) -> bytes:
    if "allocation" in head:
        return await task.allocations(head["allocation"])
    return await task.profiles(head["profile"], head["known"])
