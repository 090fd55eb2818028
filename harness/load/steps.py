"""How an operation is written: it yields what it asks for and receives the answers.

::

    def download(call):
        answer = yield Ask(request)
        return Outcome(OK) if answer.status == 200 else Outcome(FAILED, "status")

Written so, an operation waits without a thread or greenlet of its own, and thousands cost
next to nothing. :func:`drive` runs one from code that waits (warm-up, read-back).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

from gevent.event import Event

from harness.load.wire.client import KEEP, Exchange
from harness.load.wire.upload import Body

T = TypeVar("T")


class Ask:
    """One request, as bytes, ready to be sent any number of times.

    ``take`` says what becomes of the answer's body: dropped unread, kept, or hashed (SHA-256)
    and dropped. ``again``: how often it may be sent once more when a kept connection turns out
    to be closed. ``within_s``: answered by then or given up, its connection cut; None: as long
    as the operation has time.
    """

    __slots__ = ("again", "body", "head_only", "request", "take", "within_s")

    def __init__(
        self,
        request: bytes,
        body: Body | bytes | None = None,
        *,
        take: int = KEEP,
        again: int = 1,
        head_only: bool = False,
        within_s: float | None = None,
    ) -> None:
        self.request = request
        self.body = body
        self.take = take
        self.again = again
        self.head_only = head_only
        self.within_s = within_s


class Pending:
    """Something that is being done by somebody else; yielded to wait until it is over."""

    __slots__ = ("_waiting", "over")

    def __init__(self) -> None:
        self.over = False
        self._waiting: list[Callable[[], Any]] = []

    def then(self, call: Callable[[], Any]) -> None:
        """Call when it is over; at once if it is."""
        if self.over:
            call()
        else:
            self._waiting.append(call)

    def resolve(self) -> None:
        """It is over: those who wait go on."""
        self.over = True
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


Steps: TypeAlias = Generator[Ask | Pending, Exchange, T]


def drive(steps: Steps[T], perform: Callable[[Ask], Exchange]) -> T:
    """Carry out ``steps`` in the current greenlet; ``perform`` sends one request and waits."""
    try:
        wanted = next(steps)
        while True:
            if isinstance(wanted, Ask):
                wanted = steps.send(perform(wanted))
            else:
                over = Event()
                wanted.then(over.set)
                over.wait()
                wanted = next(steps)
    except StopIteration as stop:
        value: T = stop.value
        return value
