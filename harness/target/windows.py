"""When a target may be broken: hours in which it is allowed, and times in which it never is.

``allowed_hours`` of a target file: ``Mon-Fri 09:00-17:00 Europe/Berlin``, any of which must
hold the whole run; ``freezes``: ``2026-11-24T00:00 to 2026-12-01T00:00 Europe/Berlin``, none
of which may touch it. Local time, as people agree on it: hours move with the summer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOURS = re.compile(
    r"(?:(?P<first>[A-Z][a-z]{2})(?:-(?P<last>[A-Z][a-z]{2}))? )?"
    r"(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d) (?P<zone>\S+)"
)
_FREEZE = re.compile(r"(?P<begin>\S+) to (?P<end>\S+) (?P<zone>\S+)")


@dataclass(frozen=True)
class Hours:
    """On ``days`` (0: Monday) from ``begin`` to ``end``, local time of ``zone``; past midnight
    where ``end`` is not later."""

    text: str
    days: frozenset[int]
    begin: time
    end: time
    zone: ZoneInfo

    def holds(self, begin_t: float, end_t: float) -> bool:
        """Whether all of it (wall seconds) lies within one of these spans."""
        first = datetime.fromtimestamp(begin_t, self.zone)
        for back in (0, 1):
            day = (first - timedelta(days=back)).date()
            if day.weekday() not in self.days:
                continue
            later = day + timedelta(days=self.end <= self.begin)
            opens = datetime.combine(day, self.begin, self.zone).timestamp()
            closes = datetime.combine(later, self.end, self.zone).timestamp()
            if opens <= begin_t and end_t <= closes:
                return True
        return False


@dataclass(frozen=True)
class Freeze:
    """From ``begin_t`` to ``end_t`` (wall seconds)."""

    text: str
    begin_t: float
    end_t: float

    def touches(self, begin_t: float, end_t: float) -> bool:
        return begin_t < self.end_t and self.begin_t < end_t


def parse_hours(text: str) -> Hours:
    """``Mon-Fri 09:00-17:00 Europe/Berlin``; without days, all. Raises ValueError."""
    match = _HOURS.fullmatch(text)
    example = "Mon-Fri 09:00-17:00 Europe/Berlin"
    if match is None:
        raise ValueError(f"{text!r} are no hours; write {example}")
    first, last = match["first"] or "Mon", match["last"] or match["first"] or "Sun"
    for day in (first, last):
        if day not in _DAYS:
            raise ValueError(f"{day!r} is no day; write one of {', '.join(_DAYS)}")
    begin_day, count = _DAYS.index(first), (_DAYS.index(last) - _DAYS.index(first)) % 7
    days = frozenset((begin_day + n) % 7 for n in range(count + 1))
    try:
        begin, end = time.fromisoformat(match["begin"]), time.fromisoformat(match["end"])
    except ValueError as error:
        raise ValueError(f"{text!r} has no time of day; write {example}") from error
    return Hours(text, days, begin, end, _zone(match["zone"]))


def parse_freeze(text: str) -> Freeze:
    """``2026-11-24T00:00 to 2026-12-01T00:00 Europe/Berlin``. Raises ValueError."""
    match = _FREEZE.fullmatch(text)
    example = "2026-11-24T00:00 to 2026-12-01T00:00 Europe/Berlin"
    if match is None:
        raise ValueError(f"{text!r} is no freeze; write {example}")
    zone = _zone(match["zone"])
    try:
        ends = [datetime.fromisoformat(match[key]) for key in ("begin", "end")]
    except ValueError as error:
        raise ValueError(f"{text!r} has no date; write {example}") from error
    if any(end.tzinfo for end in ends):
        raise ValueError(f"{text!r} names two time zones; write {example}")
    begin_t, end_t = (end.replace(tzinfo=zone).timestamp() for end in ends)
    if begin_t >= end_t:
        raise ValueError(f"{text!r} ends before it begins; write {example}")
    return Freeze(text, begin_t, end_t)


def why_not_now(
    begin_t: float, end_t: float, hours: Iterable[str], freezes: Iterable[str]
) -> str | None:
    """Why a run from ``begin_t`` to ``end_t`` (wall seconds) is not allowed; None if it is."""
    for freeze in map(parse_freeze, freezes):
        if freeze.touches(begin_t, end_t):
            return f"the freeze {freeze.text}"
    allowed = [parse_hours(text) for text in hours]
    if allowed and not any(hours.holds(begin_t, end_t) for hours in allowed):
        zone = allowed[0].zone
        begin, end = (datetime.fromtimestamp(t, zone) for t in (begin_t, end_t))
        span = f"{begin:%a %Y-%m-%d %H:%M}–{end:%H:%M} {zone.key}"
        return f"{span} is not within {' or '.join(h.text for h in allowed)}"
    return None


def _zone(name: str) -> ZoneInfo:
    if name == "UTC":
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name!r} is no time zone; write Europe/Berlin, say") from error


def utc(t: float) -> str:
    """``2026-11-24 09:00 UTC``."""
    return f"{datetime.fromtimestamp(t, UTC):%Y-%m-%d %H:%M} UTC"
