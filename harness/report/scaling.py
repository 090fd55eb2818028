"""The part of ``report.html`` that follows a surge: load, pods asked for, pods there and ready."""

from __future__ import annotations

from collections.abc import Iterator

from harness.plan.model import Scaling
from harness.report.markup import Safe, table, tag, td, th
from harness.report.sections import Page
from harness.verdict.case import Case, number_of
from harness.verdict.scaling import Scaled, Surge, scaled_of, surge_of

#: Rows of one autoscaler; the first say enough.
_SHOWN = 60
_HEAD = ("When", "Load of a pod", "Meant for", "Asked for", "There", "Ready")


def section(page: Page) -> Safe | None:
    """Each autoscaler from the surge on; None where the plan asks nothing of scaling."""
    asked = [o for o in page.plan.objectives if isinstance(o, Scaling)]
    if not asked:
        return None
    case = Case(page.plan, page.evidence)
    surge = surge_of(case)
    if surge.end[1] <= surge.start[0]:
        return tag("section", tag("h2", "Scaling"), tag("p", surge.why_not))
    when = f"The surge: {page.clock(surge.start[0])} to {page.clock(surge.end[0])}"
    why = f" ({surge.why_not})" if surge.why_not else ""
    services = dict.fromkeys(o.service for o in asked)
    found = [scaled for service in services for scaled in scaled_of(case, surge, service)]
    return tag(
        "section",
        tag("h2", "Scaling"),
        tag("p", f"{when}{why}. Minutes and seconds from the start of the baseline; pods as the "
            "Kubernetes API showed them, the load as each autoscaler measured it.", class_="soft"),
        *(_one(page, surge, scaled) for scaled in found),
        tag("p", f"Nobody saw an autoscaler of {', '.join(services)}.") if not found else None,
    )  # fmt: skip


def _one(page: Page, surge: Surge, scaled: Scaled) -> Safe:
    needs = ""
    if scaled.before is not None and scaled.needed is not None:
        needs = f": {scaled.before:.0f} pods before, {scaled.needed:.0f} needed"
    rows = list(_rows(page, surge, scaled))
    return tag(
        "div",
        tag("h3", tag("code", scaled.subject), needs),
        table([_HEAD[0], *(th(name, class_="num") for name in _HEAD[1:])], rows[:_SHOWN]),
        tag("p", f"and {len(rows) - _SHOWN} more changes") if len(rows) > _SHOWN else None,
    )


def _rows(page: Page, surge: Surge, scaled: Scaled) -> Iterator[Safe]:
    """How it was when the surge began and when it ended, and each change of the pods."""
    edges = {surge.start[0]: "the surge begins", surge.end[0]: "the surge is over"}
    instants = {
        s.t
        for subject in (scaled.subject, scaled.pods_subject)
        for s in scaled.case.evidence.seen(subject)
        if s.t >= surge.start[0]
    }
    before: tuple[float | None, ...] = ()
    for t in sorted({*instants, *edges}):
        asked = number_of(scaled.value(t), "desired")
        counts = (asked, scaled.pods("total", t), scaled.pods("ready", t))
        if counts == before and t not in edges:
            continue
        before = counts
        each, meant = _load(scaled, t)
        what = f"{page.clock(t)} {edges.get(t, '')}".strip()
        cells = (td(text, class_="num") for text in (each, meant, *map(_count, counts)))
        yield tag("tr", th(what, scope="row"), *cells)


def _load(scaled: Scaled, t: float) -> tuple[str, str]:
    """Of the metric that asks for most: what one pod has of it, and is meant to have."""
    pods = number_of(scaled.value(t), "current")
    loads = scaled.loads(t)
    if not loads or not pods:
        return "–", "–"
    load, target = max(loads.values(), key=lambda pair: pair[0] / pair[1])
    return f"{load / pods:.3g}", f"{target:.3g}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
