"""What an observer is: something with a name that can be asked what it sees now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Observer:
    """Looks at one part of the target; only ever reads.

    A subclass sets the attributes and implements :meth:`poll`. It is used by one
    thread at a time; after a poll that hung, :meth:`renew` gives the object the next
    polls are asked of, with connections of its own.
    """

    #: unique; the evidence's source is ``watch/<name>``
    name: str = ""
    #: seconds from the start of one poll to the start of the next
    period_s: float = 1.0
    #: seconds after which a poll is given up
    timeout_s: float = 5.0
    #: subjects known before the first poll
    subjects: tuple[str, ...] = ()

    def poll(self) -> Mapping[str, Any]:
        """``{subject: value}`` as it is now; values are JSON and compare by ``==``.

        A subject that could not be seen is an ``Unseen``; any exception means that
        nothing could be seen.
        """
        raise NotImplementedError

    def renew(self) -> Observer:
        """A fresh observer of the same, for when a poll of this one hangs."""
        return self

    def close(self) -> None:
        """Release connections."""
