"""One request, as bytes, ready to be sent any number of times."""

from __future__ import annotations

from harness.load.wire.message import Head
from harness.load.wire.upload import COPY_MAX_BYTES, Body, Held

#: What becomes of the body of an answer: it is dropped unread, kept, or hashed and dropped.
DROP, KEEP, HASH = range(3)
#: Methods of which doing twice is doing once (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})


class Ask:
    """What is sent, and what is done with the answer.

    ``head``: the request's bytes, a small body included; ``body``: a body that is not small.
    ``take``: one of :data:`DROP`, :data:`KEEP`, :data:`HASH`. ``again``: how often it may be sent
    once more when a kept connection turns out to be closed. ``head_only``: the answer has no
    body, whatever its head says. ``within_s``: answered by then or given up, its connection cut;
    None: as long as there is time. ``known`` is the connection's: how answers to it begin, where
    they begin alike. ``held``: head and beginning of the body as one, for who sends both often.
    """

    __slots__ = ("again", "body", "head", "head_only", "held", "known", "take", "within_s")

    def __init__(
        self,
        method: str,
        head: bytes,
        body: Body | bytes | None = None,
        *,
        take: int = KEEP,
        again: bool = True,
        within_s: float | None = None,
    ) -> None:
        """``again``: whether it may be sent once more at all, if the method allows it."""
        if isinstance(body, bytes) and len(body) < COPY_MAX_BYTES:
            head, body = head + body, None
        self.head = head
        self.body = body or None
        self.take = take
        self.again = int(again and method in IDEMPOTENT)
        self.head_only = method == "HEAD"
        self.within_s = within_s
        self.known: Head | None = None
        self.held: Held | None = None
