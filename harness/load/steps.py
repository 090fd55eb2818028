"""How an operation is written: it yields what it asks for and receives the answers.

::

    def download(call):
        answer = yield Ask("GET", head)
        return Outcome(OK) if answer.status == 200 else Outcome(FAILED, "status")

Written so, an operation waits without a thread or greenlet of its own, and thousands cost
next to nothing. :func:`drive` runs one from code that waits (warm-up, read-back).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

from gevent.event import Event

from harness.load.wire.ask import Ask
from harness.load.wire.client import Exchange

T = TypeVar("T")


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
