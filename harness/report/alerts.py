"""The part of ``report.html`` that follows each alert: fired, taken, delivered, over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.evidence.deliveries import Delivery
from harness.plan.model import Alert
from harness.report.markup import Safe, table, tag, td, th
from harness.report.sections import Page
from harness.verdict.alerting import Alerts, Instance, Stretch, agree
from harness.verdict.case import Case

#: Rows of alerts nobody asked for; the first say enough.
_OTHERS_SHOWN = 100


def section(page: Page) -> Safe | None:
    """Every alert that fired or arrived, those the plan expects first; None where the plan asks
    nothing of alerts."""
    if not page.plan.watches_alerts:
        return None
    alerts = Alerts(Case(page.plan, page.evidence))
    receivers = alerts.receivers
    wanted = [o.selector for o in page.plan.objectives if isinstance(o, Alert)]
    expected, others = [], []
    for instance, stretch in _fired(alerts):
        row = _row(page, alerts, receivers, instance, stretch)
        chosen = any(selector.selects(instance.labels) for selector in wanted)
        (expected if chosen else others).append(row)
    others += [_stray(page, receivers, delivery) for delivery in _strays(alerts)]
    head = ["Alert", th("Fires in Prometheus", class_="num"), th("In Alertmanager", class_="num"),
            *(th(f"At {name}", class_="num") for name in receivers),
            th("Over in Prometheus", class_="num"),
            *(th(f"{name} told so", class_="num") for name in receivers)]  # fmt: skip
    return tag(
        "section",
        tag("h2", "Alerts"),
        tag("p", "Each alert on its way: minutes and seconds from the start of the baseline. "
            "Receivers are the harness's own, named in Alertmanager's configuration.",
            class_="soft"),
        tag("p", "None of the alerts the plan expects fired.") if wanted and not expected else None,
        table(head, expected, class_="alerts-table") if expected else None,
        _listed(head, others),
    )  # fmt: skip


def _listed(head: list[Safe | str], rows: list[Safe]) -> Safe | None:
    if not rows:
        return None
    more = f", the first {_OTHERS_SHOWN} of which" if len(rows) > _OTHERS_SHOWN else ""
    summary = tag("summary", f"{len(rows)} others that fired or arrived{more}")
    return tag("details", summary, table(head, rows[:_OTHERS_SHOWN], class_="alerts-table"))


def _fired(alerts: Alerts) -> list[tuple[Instance, Stretch]]:
    found = [
        (instance, stretch)
        for instance in alerts.in_prometheus
        for stretch in instance.stretches
        if stretch.state == "firing"
    ]
    return sorted(found, key=lambda pair: (pair[1].high, pair[0].words))


def _row(
    page: Page, alerts: Alerts, receivers: Sequence[str], instance: Instance, stretch: Stretch
) -> Safe:
    """One time of firing; what belongs to it lies between it and the next of the same alert."""
    later = [s.low for s in instance.stretches if s.state == "firing" and s.low > stretch.low]
    until_t = min(later, default=float("inf"))
    # What looks at Alertmanager, and Alertmanager itself, may be before who looks at Prometheus.
    since_t = stretch.low - 1.0
    taken = [
        s.high
        for i in alerts.in_alertmanager
        if agree(i.labels, instance.labels)
        for s in i.stretches
        if s.state == "active" and since_t <= s.high < until_t
    ]
    mine = [
        d
        for d in alerts.delivered
        if d.known_by != "title" and agree(d.labels, instance.labels) and since_t <= d.t < until_t
    ]
    return _cells(
        page,
        instance.words,
        [stretch.high, min(taken, default=None)],
        [_first(mine, name, "firing") for name in receivers],
        stretch.end_high,
        [_last_resolved(mine, name) for name in receivers],
    )


def _first(told: Iterable[Delivery], receiver: str, status: str) -> float | None:
    mine = (d.t for d in told if d.receiver == receiver and d.status == status)
    return min(mine, default=None)


def _last_resolved(told: Iterable[Delivery], receiver: str) -> float | None:
    mine = (d.t for d in told if d.receiver == receiver and d.status == "resolved")
    return max(mine, default=None)


def _strays(alerts: Alerts) -> list[Delivery]:
    """Deliveries of which only a title is known, or that nobody saw fire."""
    return [
        d
        for d in alerts.delivered
        if d.status == "firing"
        and (
            d.known_by == "title"
            or not any(agree(d.labels, i.labels) for i in alerts.in_prometheus)
        )
    ]


def _stray(page: Page, receivers: Sequence[str], delivery: Delivery) -> Safe:
    what = Instance(delivery.labels, ()).words
    if delivery.known_by == "title":
        what = f"{' '.join((delivery.name, *delivery.words))} (by its title)"
    at = [delivery.t if name == delivery.receiver else None for name in receivers]
    return _cells(page, what, [None, None], at, None, [None] * len(receivers))


def _cells(
    page: Page,
    what: str,
    seen: Sequence[float | None],
    told: Sequence[float | None],
    over_t: float | None,
    told_over: Sequence[float | None],
) -> Safe:
    instants = (*seen, *told, over_t, *told_over)
    cells = (td(page.clock(t), class_="num") for t in instants)
    return tag("tr", th(tag("code", what), scope="row"), *cells)
