"""What an observer's polls mean as evidence: sightings, heartbeats, an end.

Rule: silence must never read as "no change". A value is written when it changes;
a heartbeat says how many polls there were; polls that keep failing, or hang, turn
what was known into ``unknown``; the closing line says that nothing was lost.

Not a thread in here: :mod:`harness.watch.watch` drives it, tests drive it by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.clock import Clock
from harness.evidence.journal import Journal

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Unseen:
    """In place of a value: this subject could not be seen in an otherwise good poll."""

    reason: str


@dataclass
class _Subject:
    value: Any
    #: when the last poll that saw it began (monotonic seconds)
    seen_m: float


class Recorder:
    """Turns polls of one observer into journal lines. Safe to call from several threads.

    ``unknown_after_s``: how long a subject may go unseen before it is ``unknown``.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        observer: str,
        period_s: float,
        subjects: tuple[str, ...],
        unknown_after_s: float,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._period_s = period_s
        self._unknown_after_s = unknown_after_s
        self._lock = threading.Lock()
        self._subjects: dict[str, _Subject] = {}
        self._began_m = clock.monotonic_s()
        self._closed = False
        self._counts = {"polls": 0, "errors": 0}
        self._last_error: str | None = None
        #: why the journal could not be written, once it could not
        self.broken: str | None = None
        self._expected = subjects
        self._write("watch.start", observer=observer, period_s=period_s, subjects=list(subjects))

    def answered(self, began_m: float, values: Mapping[str, Any]) -> None:
        """A poll that began at ``began_m`` (monotonic) brought ``values`` just now."""
        with self._lock:
            if self._closed:
                return
            now_t, now_m = self._clock.wall_s(), self._clock.monotonic_s()
            self._counts["polls"] += 1
            unseen = {s: v.reason for s, v in values.items() if isinstance(v, Unseen)}
            missing = self._subjects.keys() - values.keys()
            for subject in sorted(missing):
                unseen[subject] = f"{subject} is missing from the answer"
            if unseen:
                self._counts["errors"] += 1
                self._last_error = "; ".join(sorted(set(unseen.values())))[:300]
            for subject, value in values.items():
                if not isinstance(value, Unseen):
                    self._saw(subject, value, began_m, now_t, now_m)
            self._forget_unseen(now_t, now_m)

    def failed(self, error: str) -> None:
        """A poll failed, or is late."""
        with self._lock:
            if self._closed:
                return
            self._counts["polls"] += 1
            self._counts["errors"] += 1
            self._last_error = error[:300]
            self._forget_unseen(self._clock.wall_s(), self._clock.monotonic_s())

    def tick(self) -> None:
        """Time has passed: what has not been seen for too long becomes unknown."""
        with self._lock:
            if not self._closed:
                self._forget_unseen(self._clock.wall_s(), self._clock.monotonic_s())

    def beat(self) -> None:
        """Write the heartbeat: polls and errors so far."""
        with self._lock:
            if not self._closed:
                self._beat()

    def close(self) -> None:
        """Last heartbeat and the closing line; later answers are dropped."""
        with self._lock:
            if self._closed:
                return
            self._beat()
            self._closed = True
            if self.broken is None:
                try:
                    self._journal.close()
                except OSError as error:
                    self.broken = str(error)

    def _beat(self) -> None:
        self._write("watch.beat", **self._counts, last_error=self._last_error)

    def _saw(self, subject: str, value: Any, began_m: float, now_t: float, now_m: float) -> None:
        known = self._subjects.get(subject)
        if known is not None and began_m < known.seen_m:
            return  # an answer overtaken by a later question's
        # The first has nothing before it to compare with: as uncertain as any poll.
        before_m = began_m - self._period_s if known is None else known.seen_m
        uncertainty_s = now_m - before_m
        if known is None or known.value != value:
            self._sighting(subject, value, now_t, uncertainty_s)
        self._subjects[subject] = _Subject(value, began_m)

    def _forget_unseen(self, now_t: float, now_m: float) -> None:
        """Turn what has not been seen for too long into ``unknown``."""
        for subject in self._expected:
            if subject not in self._subjects and now_m - self._began_m > self._unknown_after_s:
                self._subjects[subject] = _Subject(UNKNOWN, self._began_m)
                self._sighting(subject, UNKNOWN, now_t, now_m - self._began_m)
        for subject, known in self._subjects.items():
            if known.value != UNKNOWN and now_m - known.seen_m > self._unknown_after_s:
                known.value = UNKNOWN
                self._sighting(subject, UNKNOWN, now_t, now_m - known.seen_m)

    def _sighting(self, subject: str, value: Any, t: float, uncertainty_s: float) -> None:
        self._write(
            "sighting",
            t=t,
            subject=subject,
            value=value,
            uncertainty_s=round(max(0.0, uncertainty_s), 6),
        )

    def _write(self, kind: str, **data: Any) -> None:
        """Write a line; once that failed write no more, so that the loss shows as a gap."""
        if self.broken is not None:
            return
        try:
            self._journal.write(kind, **data)
        except OSError as error:
            self.broken = str(error)
