"""Unpack gzip bodies (RFC 1952) piece by piece, so that a bomb is refused before it is large."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import NoReturn

from api.problems.problem import ProblemError

#: What one step may unpack.
PIECE_BYTES = 2**18
#: Members of one body; millions of empty ones would cost time and unpack to nothing.
MAX_MEMBERS = 1000
_GZIP = 16 + zlib.MAX_WBITS


class Gunzip:
    """One body; several members in a row are one body, as ``cat a.gz b.gz`` makes them.

    Example:
        >>> import gzip
        >>> unpacking = Gunzip()
        >>> b"".join(unpacking.pieces(gzip.compress(b"{}")))
        b'{}'
        >>> unpacking.finish()
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._members = 0

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Unpack what arrived.

        Args:
            chunk: The next bytes of the packed body.

        Yields:
            At most :data:`PIECE_BYTES` at a time.

        Raises:
            ProblemError: The bytes are not gzip, or a great many small members.
        """
        while chunk:
            if self._member.eof or not self._members:
                self._member = zlib.decompressobj(_GZIP)
                self._members += 1
            if self._members > MAX_MEMBERS:
                _refuse(f"has more than {MAX_MEMBERS} gzip members")
            try:
                piece = self._member.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                _refuse(f"is not gzip: {error}")
            yield piece
            chunk = self._member.unconsumed_tail or self._member.unused_data

    def finish(self) -> None:
        """Say that the body ends here.

        Raises:
            ProblemError: Its last member is cut off, or there was none.
        """
        if not self._member.eof:
            _refuse("is cut off")


def _refuse(what: str) -> NoReturn:
    detail = f"the body {what}; pack it again, or send it without Content-Encoding"
    raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid-gzip", detail) from None
