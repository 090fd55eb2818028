"""The part of ``report.html`` that follows a service which gave less: what those got who asked."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.plan.model import Degradation
from harness.report.markup import Safe, table, tag, td, th
from harness.report.sections import Page
from harness.verdict.case import Case
from harness.verdict.counts import Counts
from harness.verdict.degradation import Degraded, Turn, kinds_of
from harness.verdict.landing import landing

_HEAD = ("Stretch", "From – to", "Asked for", "As asked", "Degraded", "Failed", "Not known")


def section(page: Page) -> Safe | None:
    """Each fault in stretches; None where the plan asks nothing of degradation."""
    asked = [o for o in page.plan.objectives if isinstance(o, Degradation)]
    if not asked:
        return None
    case = Case(page.plan, page.evidence)
    found = [Degraded(case, o, landing(case, fault)) for o in asked for fault in o.faults]
    return tag(
        "section",
        tag("h2", "Degradation"),
        tag("p", "Degraded is what the service itself said was less than was asked for: no error, "
            "and no success. By the second in which it was asked for; minutes and seconds from the "
            "start of the baseline.", class_="soft"),
        *(_one(page, degraded) for degraded in found),
    )  # fmt: skip


def _one(page: Page, seen: Degraded) -> Safe:
    names = ", ".join(seen.objective.operations)
    head = tag("h3", f"{names}, fault ", tag("code", seen.landed.fault))
    if seen.why_not:
        return tag("div", head, tag("p", f"Nothing can be told: {seen.why_not}."))
    head_row = [*(th(name) for name in _HEAD[:2]), *(th(name, class_="num") for name in _HEAD[2:])]
    rows = [_row(page, seen, what, seconds) for what, seconds in _stretches(seen) if seconds]
    return tag("div", head, table(head_row, rows), tag("p", _breakers(page, seen)))


def _stretches(seen: Degraded) -> Iterator[tuple[str, range]]:
    """The seconds from before the fault to the end of the recovery."""
    assert seen.undo_t is not None
    fault, undone = math.floor(seen.landed.low), seen.after.start
    before = seen.case.seconds("baseline")
    whole = undone if seen.last is None else seen.last + 1
    yield "baseline", before
    yield f"until it must degrade ({seen.objective.within_s:g} s)", range(fault, seen.held.start)
    yield "until it was taken back", range(seen.held.start, undone)
    yield "until the last degraded answer", range(undone, whole)
    yield "until the recovery's end", range(whole, seen.after.stop)


def _row(page: Page, seen: Degraded, what: str, seconds: range) -> Safe:
    counts = seen.counts(seconds)
    when = f"{page.clock(seconds.start)} – {page.clock(seconds.stop)}"
    failed = counts.failed + counts.unsure
    cells = (counts.planned, counts.ok, _degraded(counts), failed, counts.either_way)
    return tag(
        "tr",
        th(what, scope="row"),
        td(when, class_="nowrap"),
        *(td(f"{cell:,}" if isinstance(cell, int) else cell, class_="num") for cell in cells),
    )


def _degraded(counts: Counts) -> str:
    return kinds_of(counts) or "0"


def _breakers(page: Page, seen: Degraded) -> str:
    if not seen.objective.breaker:
        return "Of circuit breakers nothing was asked."
    breakers = seen.breakers
    if breakers.why_not:
        return f"Of the circuit breakers nothing can be told: {breakers.why_not}."
    if breakers.opened is None:
        return "No circuit breaker opened."
    closed = "all closed again by the fault's end"
    if breakers.closed is not None:
        closed = f"the last closed {_between(page, breakers.closed)}"
    if breakers.open_at_last:
        closed = "not all closed again"
    return f"The first circuit breaker opened {_between(page, breakers.opened)}, {closed}."


def _between(page: Page, turn: Turn) -> str:
    return f"between {page.clock(turn.low)} and {page.clock(turn.high)}"
