"""Progress waits for its time, answers do not, and no progress comes after the answer."""

from __future__ import annotations

import io
from typing import Any

from api.workers.frames import framed, read
from api.workers.writer import ReplyWriter


def heads(channel: io.BytesIO) -> list[dict[str, Any]]:
    channel.seek(0)
    found = []
    while (message := read(channel)) is not None:
        found.append(message[0])
    return found


def test_progress_is_passed_on_in_their_order() -> None:
    channel = io.BytesIO()
    replies = ReplyWriter(channel)
    replies.tell({"gap": 0.5})
    replies.send(framed({"profile": "a", "known": False}))
    replies.tell({"gap": 0.25})
    replies.pass_on()
    replies.pass_on()
    assert heads(channel) == [
        {"profile": "a", "known": False},
        {"progress": {"gap": 0.5}},
        {"progress": {"gap": 0.25}},
    ]


def test_an_answer_makes_news_old() -> None:
    channel = io.BytesIO()
    replies = ReplyWriter(channel)
    replies.tell({"gap": 0.5})
    replies.answer(framed({"done": {}}))
    replies.pass_on()
    assert heads(channel) == [{"done": {}}]


def test_of_too_many_news_the_oldest_are_lost() -> None:
    channel = io.BytesIO()
    replies = ReplyWriter(channel)
    for at in range(1500):
        replies.tell({"at": at})
    replies.pass_on()
    assert [head["progress"]["at"] for head in heads(channel)] == list(range(500, 1500))
