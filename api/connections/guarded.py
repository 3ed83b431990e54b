"""uvicorn's HTTP protocol, with limits for what happens before a request has arrived.

uvicorn 0.54 has none: it collects a header for as long as bytes come, in quadratic time (96 MB took 50 s of the event
loop), waits for ever for the rest of one, and its ``limit_concurrency`` counts the silent as well, so that they close
the service to everybody. hypercorn and granian have some of these limits and not others, and another server is another
behaviour everywhere else; these are a hundred lines around callbacks that uvicorn has anyway.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.connections.limit import ConnectionLimit
from api.connections.refusal import NO_HTTP, TOO_MANY, Refusal, too_large, too_slow

_LOG = logging.getLogger(__name__)
#: Who was refused may read why for so long; what is still sent meanwhile is thrown away.
_LINGER_S = 1.0


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        limit: All connections of the server.
        max_header_bytes: Of address and headers together, and of anything else that is no body.
        header_timeout_s: From the first to the last byte of a head; also between bytes that a client does not read.
        **rest: What uvicorn gives to each of its connections.
    """

    def __init__(
        self,
        *,
        limit: ConnectionLimit,
        max_header_bytes: int,
        header_timeout_s: float,
        **rest: Any,  # noqa: ANN401 - uvicorn's own
    ) -> None:
        super().__init__(**rest)
        self._limit = limit
        self._max_header_bytes = max_header_bytes
        self._header_timeout_s = header_timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._refused = False
        self._counted = False
        self._arrived = True  # the message before is here to its end
        self._idle_bytes = 0  # bytes since there was a whole head or a piece of a body
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or tell why that is not possible."""
        if not self._limit.admit(self):
            self.transport = transport
            self._refused = self._counted = True
            self._limit.refused += 1
            if not self._limit.may_answer():
                transport.abort()
                return
            self._end(TOO_MANY)
            return
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._limit.refused -= self._counted
        self._limit.leave(self)
        self._cancel()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)

    def evict(self) -> None:
        """End, for there are too many connections and nothing was asked for here."""
        self._refuse(None)

    def data_received(self, data: bytes) -> None:
        """Parse, unless too much came that is no body."""
        if self._refused:
            return
        if self._arrived:
            self._expect_head()
        self._idle_bytes += len(data)
        try:
            self._unset_keepalive_if_required()
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(NO_HTTP)  # there are no WebSockets here
        except httptools.HttpParserError:
            self._refuse(NO_HTTP)
        if self._idle_bytes > self._max_header_bytes:
            self._refuse(too_large(self._max_header_bytes))

    def on_message_begin(self) -> None:
        """Begin to count the head."""
        self._arrived, self._head_bytes = False, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a piece of the address."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._head_bytes += len(name) + len(value) + 4
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Serve a request, unless its head is too large."""
        if self._refused:
            return
        self._idle_bytes = 0
        if self._head_bytes > self._max_header_bytes:
            self._refuse(too_large(self._max_header_bytes))
            return
        self._cancel()
        self._limit.note_request(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._idle_bytes = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request has arrived to its end."""
        self._arrived, self._idle_bytes = True, 0
        self._cancel()
        if not self._refused:
            super().on_message_complete()
            if self.cycle.response_complete:
                self._limit.note_idle(self)

    def on_response_complete(self) -> None:
        """Wait for the next request; the rest of this one has to be here as fast as a head."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.pipeline:
            self._limit.note_idle(self)
            if not self._arrived:
                self._expect_head()

    def pause_writing(self) -> None:
        """Watch a client that does not read."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Leave a client alone that reads."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_reader(self, before_bytes: int) -> None:
        def look() -> None:
            left_bytes = self.transport.get_write_buffer_size()
            if left_bytes < before_bytes:
                self._watch_reader(left_bytes)
            else:
                self.transport.abort()

        self._stall = self.loop.call_later(6 * self._header_timeout_s, look)

    def _expect_head(self) -> None:
        if self._deadline is None:
            if not self._answering:
                self._limit.note_idle(self)
            self._deadline = self.loop.call_later(self._header_timeout_s, self._overdue)

    def _overdue(self) -> None:
        self._deadline = None
        if self._answering:
            self._deadline = self.loop.call_later(
                self._header_timeout_s, self._overdue
            )  # the answer comes first
        else:
            self._refuse(too_slow(self._header_timeout_s) if self._idle_bytes else None)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, why: Refusal | None) -> None:
        if self._refused:
            return
        self._refused = True
        self._unset_keepalive_if_required()
        self._cancel()
        if self._answering:
            self.transport.abort()  # this answer cannot come in the middle of another
        elif why is None:
            self.transport.close()
        else:
            self._end(why)

    def _end(self, why: Refusal) -> None:
        # To close with bytes unread resets the connection, and the client would not get to read the answer.
        if self.transport.is_closing():
            return
        _LOG.info("connection refused", extra={"fields": {"status": why.status.value, "problem": why.kind}})
        self.transport.write(why.response())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.abort)
