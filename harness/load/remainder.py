"""The rest of a share whose worker is gone: still planned, sent by nobody.

A schedule is a pure function, so whoever knows how far a worker came knows every arrival
it left undone. Those due before the worker had surely stopped may have been sent: they are
counted as planned, with nothing known of them. Those after it were not sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.load.tally import Tally

#: So many arrivals are passed over or counted at once: some milliseconds of work.
CHUNK = 20_000


class Remainder:
    """Counts the rest of one share as it falls due."""

    def __init__(
        self,
        tally: Tally,
        instants_t: Iterator[float],
        *,
        reported: int,
        stopped_by_t: float,
        error: str,
    ) -> None:
        """``instants_t``: the whole share, of which the worker counted ``reported`` arrivals
        itself. By ``stopped_by_t`` it had stopped for sure. ``error`` is what the arrivals
        that were not sent are counted under."""
        self._tally = tally
        self._instants_t = instants_t
        self._left_to_skip = reported
        self._stopped_by_t = stopped_by_t
        self._error = error
        self._next_t: float | None = None
        self._over = False

    def count(self, until_t: float) -> bool:
        """Count what is due by ``until_t``, a chunk of it at most; whether that was all."""
        tally = self._tally
        for _ in range(CHUNK):
            if self._next_t is None:
                self._next_t = next(self._instants_t, None)
                if self._next_t is None:
                    return True
            if self._left_to_skip:
                self._left_to_skip -= 1
            elif self._next_t >= until_t:
                return True
            else:
                tally.planned(self._next_t)
                if self._next_t >= self._stopped_by_t:
                    tally.not_sent(self._next_t, "", self._error)
                else:
                    # Sent or not: among what is in flight at the end, for ever.
                    tally.sums.in_flight += 1
            self._next_t = None
        return False

    def flush(self) -> None:
        self._tally.flush()

    def close(self) -> None:
        """Write the sums of the worker's tally, its own counts included."""
        self._tally.end(closed_by="master")
