"""Whether the instants of a run can be compared.

Every line of the history carries the wall clock and the monotonic clock of its host, and nothing
but setting the wall clock changes how far they are apart. Prometheus stamps its samples by a clock
of its own; how far ahead that is was measured during the run. Generators count by the time of
their master, as far as each says it knows that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness.evidence.model import Event, Gap
from harness.verdict.case import Case

PROMETHEUS = "clock:prometheus"
#: A wall clock that moves less than this, and a thousandth of the time that passed, is only slewed
#: (NTP corrects by at most half of that: adjtimex(2)).
STEP_S = 0.5
SLEW = 0.001
#: What is further off than this belongs to other seconds, and phases, than it is counted to.
WRONG_S = 1.0
#: Lines whose wall instant is read with the monotonic one. Others may tell of an instant before.
_AT_ONCE = ("run.start", "run.end", "phase.start", "phase.end", "watch.beat")


class Offset(NamedTuple):
    """A clock is ahead by something between ``low_s`` and ``high_s``."""

    low_s: float
    high_s: float

    @property
    def middle_s(self) -> float:
        return (self.low_s + self.high_s) / 2


NO_OFFSET = Offset(0.0, 0.0)


def step_gaps(case: Case) -> Iterator[Gap]:
    """The wall clock of the harness was set while it ran."""
    lines = sorted(case.evidence.of_kind(*_AT_ONCE), key=lambda event: event.m)
    if not lines:
        return
    apart = [event.t - event.m for event in lines]
    allowed_s = STEP_S + SLEW * (lines[-1].m - lines[0].m)
    if max(apart) - min(apart) > allowed_s:
        first = next(e for e in lines if abs(e.t - e.m - apart[0]) > allowed_s / 2)
        by_s = apart[-1] - apart[0]
        detail = f"the wall clock was set by {by_s:+.1f} s before second {first.t:.0f}"
        yield Gap("conductor", "clock", None, detail)


def worker_gaps(case: Case) -> Iterator[Gap]:
    """Generators whose time may be further from their master's than is allowed."""
    for event in case.evidence.of_kind("worker.clock"):
        source, figures = f"load/{event.text('worker')}", _figures(event)
        if figures is None:
            yield Gap(source, "clock", None, "its clock was not compared with the master's")
            continue
        drift_s, uncertainty_s, bound_s = figures
        if not abs(drift_s) + uncertainty_s <= bound_s:
            off = f"{drift_s:.3f} s ± {uncertainty_s:.3f} s"
            yield Gap(source, "clock", None, f"its clock is off by {off}, at most {bound_s:g}")


def _figures(event: Event) -> tuple[float, float, float] | None:
    figures = [event.data.get(key) for key in ("drift_s", "uncertainty_s", "bound_s")]
    if not all(isinstance(figure, (int, float)) for figure in figures):
        return None
    drift_s, uncertainty_s, bound_s = (float(figure) for figure in figures if figure is not None)
    return drift_s, uncertainty_s, bound_s


def wrong(case: Case) -> Iterable[str]:
    """Why a failure may be one of the clocks: what is counted to a second may belong to another."""
    for gap in step_gaps(case):
        yield gap.detail
    for event in case.evidence.of_kind("worker.clock"):
        figures = _figures(event)
        if figures is not None and abs(figures[0]) > WRONG_S:
            yield f"the clock of {event.text('worker')} is off by {figures[0]:+.1f} s"
            return


def prometheus_ahead(case: Case, seconds: range) -> Offset:
    """How far Prometheus's clock is ahead of the harness's in ``seconds``; 0 if nobody looked.

    That nobody looked, where somebody was to, is a gap of its own.
    """
    looks = [
        sighting
        for sighting in case.evidence.seen(PROMETHEUS)
        if isinstance(sighting.value, (int, float)) and not isinstance(sighting.value, bool)
    ]
    before = [look.value for look in looks if look.t <= seconds.start]
    inside = [
        look.value
        for look in looks
        if look.t > seconds.start and look.t - look.uncertainty_s <= seconds.stop
    ]
    # Where the first look came later, it tells of the time before it too.
    known = [*before[-1:], *inside] or [look.value for look in looks[:1]] or [0.0]
    return Offset(float(min(known)), float(max(known)))
