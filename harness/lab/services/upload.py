"""The body of an upload, measured and hashed as it passes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from harness.lab.services.asgi import MAX_BODY_BYTES, Request

DEFAULT_TYPE = "application/octet-stream"


class Upload:
    """Bytes from ``source``; ``length`` of them (None: not known beforehand).

    ``expected`` is the SHA-256 in hex that the client says they have, "" if it does not.
    """

    def __init__(
        self,
        source: AsyncIterator[bytes],
        *,
        length: int | None,
        content_type: str,
        expected: str = "",
    ) -> None:
        self.length = length
        self.content_type = content_type
        self.size_bytes = 0
        self._source = source
        self._hash = hashlib.sha256()
        self._expected = expected.lower()

    @classmethod
    def of(cls, request: Request) -> Upload:
        """The body of this request."""
        return cls(
            request.chunks(MAX_BODY_BYTES),
            length=request.content_length,
            content_type=request.header(b"content-type")[:200] or DEFAULT_TYPE,
            expected=request.header(b"x-checksum-sha256"),
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._source:
            self._hash.update(chunk)
            self.size_bytes += len(chunk)
            yield chunk

    async def whole(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def drain(self) -> None:
        async for _ in self.chunks():
            pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def mismatch(self) -> bool:
        return bool(self._expected) and self._expected != self.sha256
