"""A worker process: ``python -m api.workers.worker``, started and killed by :mod:`api.workers.pool`.

It leads a process group of its own, so that solvers that it starts die with it; it dies when the service does.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

from api.workers.cache import ProfileCache, TaskContext
from api.workers.failure import RefusedError, failure
from api.workers.frames import framed, read
from api.workers.json_body import JsonLimits
from api.workers.tasks import TASKS
from api.workers.writer import EVERY_MS, ReplyWriter

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve tasks from standard input until it closes."""
    options = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (options["memory_bytes"],) * 2)
    # Solvers may print; what they print is log, not answer.
    replies = ReplyWriter(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _die_with_the_service(replies)
    for module in options["plugins"]:
        importlib.import_module(module).register()
    gc.freeze()  # what was imported stays; looking through it again and again took a twentieth of each solve
    replies.send(framed({"ready": True}))
    _serve(sys.stdin.buffer, replies, JsonLimits(**options["limits"]))


def _serve(tasks: BinaryIO, replies: ReplyWriter, limits: JsonLimits) -> None:
    profiles = ProfileCache()

    def ask(head: Mapping[str, Any]) -> bytes:
        replies.send(framed(head))
        reply = read(tasks)
        if reply is None:
            _end()
        head, parts = reply
        if head.get("refused"):
            raise RefusedError
        return parts[0]

    while (message := read(tasks)) is not None:
        head, (body,) = message
        context = TaskContext(
            body,
            head["options"],
            limits,
            profiles,
            tell=replies.tell,
            fetch=lambda sha256, known: ask({"profile": sha256, "known": known}),
            fetch_allocation=lambda identifier: ask({"allocation": identifier}),
        )
        answer = _answer(TASKS[head["task"]], context)
        if head["options"].get("all_progress"):  # somebody follows a job, however short
            replies.pass_on()
        replies.answer(answer)


def _answer(
    task: Callable[[TaskContext], tuple[Mapping[str, Any], list[bytes]]], context: TaskContext
) -> bytes:
    try:
        facts, parts = task(context)
        return framed({"done": facts}, parts)
    except Exception as error:
        return framed(failure(error))


def _die_with_the_service(replies: ReplyWriter) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(sys.stdin.fileno(), replies), daemon=True).start()


def _watch(channel: int, replies: ReplyWriter) -> None:
    # Asked for no event, poll still tells when the other end of the pipe is gone; solvers then go too.
    poll = select.poll()
    poll.register(channel, 0)
    with contextlib.suppress(OSError):  # of writing to a service that is gone
        while not poll.poll(EVERY_MS):
            replies.pass_on()
    _end()


def _end() -> NoReturn:
    os.killpg(0, signal.SIGKILL)
    raise SystemExit


if __name__ == "__main__":
    main()
