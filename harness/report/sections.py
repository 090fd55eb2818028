"""The parts of ``report.html`` that say what was found: verdict, reasons, findings, figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evidence.model import Evidence, Readback
from harness.plan.model import Plan
from harness.report import words
from harness.report.figures import span
from harness.report.markup import Child, Safe, table, tag, td, th
from harness.report.moments import Moment

Finding = Mapping[str, Any]
#: More reasons than this are shown only on demand: the first ones matter.
_REASONS = 8


@dataclass(frozen=True)
class Page:
    """What every section draws on. ``start_t``, ``end_t``: the run's own clock, wall seconds."""

    plan: Plan
    evidence: Evidence
    verdict: Mapping[str, Any]
    moments: Sequence[Moment]
    start_t: float
    end_t: float

    @property
    def findings(self) -> list[Finding]:
        return [f for f in self.verdict.get("findings") or () if isinstance(f, Mapping)]

    @property
    def target(self) -> Mapping[str, Any]:
        found = self.verdict.get("target")
        return found if isinstance(found, Mapping) else {}

    @property
    def figures(self) -> list[Mapping[str, Any]]:
        return [p for p in self.verdict.get("phases") or () if isinstance(p, Mapping)]

    @property
    def outcome(self) -> str:
        return words.outcome_of(self.verdict.get("outcome"))

    def clock(self, t: float | None) -> str:
        return "–" if t is None else words.clock(t - self.start_t)

    def measured(self, finding: Finding) -> str:
        return words.measured(finding.get("measured"), self.start_t or None)


def outcome_mark(outcome: object) -> Safe:
    """``✗ fail``: never by colour alone."""
    name = words.outcome_of(outcome)
    return tag("span", f"{words.MARKS[name]} {name}", class_=f"mark-word {name}")


# ---- verdict ----------------------------------------------------------------------------------


def head(page: Page) -> Safe:
    """The verdict in one line, then what was tested, when, how long and at what rate."""
    outcome = page.outcome
    badge = f"{words.MARKS[outcome]} {words.HEADLINES[outcome]}"
    return tag(
        "header",
        tag("h1", f"Game day {page.plan.name}"),
        tag(
            "div",
            tag("span", badge, class_="badge"),
            tag("p", str(page.verdict.get("summary") or "no summary"), class_="sentence"),
            class_="headline",
        ),
        tag("dl", *(_fact(name, value) for name, value in _facts(page)), class_="facts"),
        class_=f"verdict {outcome}",
    )


def _fact(name: str, value: str) -> Safe:
    return tag("div", tag("dt", name), tag("dd", value))


def _facts(page: Page) -> list[tuple[str, str]]:
    plan, (start, end) = page.plan, span(page.evidence)
    name = page.target.get("name")
    target = f"{name}: {plan.target.service}" if name else plan.target.service
    counts = [worst for worst in words.WORST_FIRST for f in page.findings
              if words.outcome_of(f.get("outcome")) == worst]  # fmt: skip
    tally = ", ".join(f"{counts.count(o)} {o}" for o in words.WORST_FIRST if o in counts)
    return [
        ("Tested", target),
        ("When", words.utc(start) if end > start else "no phase ran"),
        ("How long", words.duration(end - start)),
        ("Traffic planned", f"{plan.traffic.rate_words}, {plan.traffic.arrivals}"),
        ("Findings", tally or "none"),
        ("Exit status", str(page.verdict.get("exit_status", "–"))),
    ]


def notice(page: Page) -> Safe | None:
    """That lab times are not production times, where the target is simulated."""
    if not page.target.get("simulated"):
        return None
    scale = page.target.get("time_scale")
    scaled = ""
    if isinstance(scale, (int, float)) and scale not in (0, 1):
        scaled = f" Intervals of the AWS control plane are divided by {scale:g}."
    return tag(
        "p",
        tag("strong", "Lab times are not production times."),
        f" This ran on “{page.target.get('name', 'a stand-in')}”, a simulated target on one "
        f"machine.{scaled} Judge the order of events and whether they happened, not the seconds.",
        class_="notice",
        role="note",
    )


def why(page: Page) -> Safe:
    """Each finding that is not a pass, in plain words; and the figures that matter."""
    bad = [f for outcome in ("fail", "unknown") for f in page.findings
           if words.outcome_of(f.get("outcome")) == outcome]  # fmt: skip
    parts: list[Child] = [tag("h2", "Why")]
    reasons = [_reason(page, same) for same in _by_reason(bad)]
    if reasons:
        parts.append(tag("ul", *reasons[:_REASONS], class_="reasons"))
    if reasons[_REASONS:]:
        more = tag("summary", f"{len(reasons) - _REASONS} more")
        parts.append(tag("details", more, tag("ul", *reasons[_REASONS:], class_="reasons")))
    if not bad:
        parts.append(_held(page))
    parts.append(tag("div", *(_card(*card) for card in cards(page)), class_="cards"))
    return tag("section", *parts)


def _held(page: Page) -> Safe:
    if page.outcome == "pass":
        said = f"All {len(page.findings)} findings hold. The figures that matter:"
    else:
        said = "No single finding is to blame: see the sentence above."
    return tag("p", said, class_="soft")


def _by_reason(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings that say the same thing together: a fault that never landed spoils many."""
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        key = (words.outcome_of(finding.get("outcome")), str(finding.get("because")))
        grouped.setdefault(key, []).append(finding)
    return list(grouped.values())


def _reason(page: Page, findings: Sequence[Finding]) -> Safe:
    heads = [_reason_head(f) for f in findings]
    first, hint = findings[0], None
    measured = page.measured(first)
    if len(findings) == 1 and measured != "–":
        said = f"Measured {measured}; required: {first.get('required') or '–'}"
        hint = tag("div", said, class_="hint")
    because = tag("div", str(first.get("because") or "no reason given"))
    return tag("li", *heads, because, hint, class_=words.outcome_of(first.get("outcome")))


def _reason_head(finding: Finding) -> Safe:
    phase = tag("span", f" · {words.phase(finding.get('phase'))}", class_="soft")
    mark = outcome_mark(finding.get("outcome"))
    return tag("div", mark, f"  {finding.get('objective')}", phase, class_="head")


def cards(page: Page) -> list[tuple[str, str, str]]:
    """(label, figure, what it is of): availability, P95, recoveries and uploads."""
    found = [
        *_availability_cards(page),
        *_budget_cards(page),
        *_recovery_cards(page),
        *_upload_cards(page),
    ]
    return [card for card in found if card[1] != "–"]


def _availability_cards(page: Page) -> list[tuple[str, str, str]]:
    clients = [p["client"] for p in page.figures if isinstance(p.get("client"), Mapping)]
    due = sum(max(c.get("planned") or 0, _accounted(c)) for c in clients)
    if not due:
        return []
    ok = sum(c.get("ok") or 0 for c in clients)
    under = f"{ok:,} of {due:,} planned requests, faults included"
    less = sum(c.get("degraded") or 0 for c in clients)
    under += f"; {less:,} more degraded" if less else ""
    found = [("Availability, whole run", words.percent(ok / due), under)]
    clients = [p["client"] for p in page.figures if p.get("kind") == "baseline"]
    latency = (clients[0].get("latency_s") if clients else None) or {}
    p50, p95, p99 = (_middle(latency.get(name)) for name in ("p50", "p95", "p99"))
    if p95 is not None:
        under = f"P50 {words.millis(p50)}, P99 {words.millis(p99)}"
        found.append(("P95 before any fault", words.millis(p95), under))
    return found


_CARDS = {"error budget": "Error budget spent", "mttr": "MTTR", "mtbf": "MTBF"}


def _budget_cards(page: Page) -> list[tuple[str, str, str]]:
    """What was spent of each error budget; and what the time before this run says."""
    titles = {o.text: _CARDS[o.kind] for o in page.plan.objectives if o.kind in _CARDS}
    return [
        (titles[text], page.measured(finding), f"required: {finding.get('required')}")
        for finding in page.findings
        if (text := str(finding.get("objective"))) in titles
    ]


def _accounted(client: Mapping[str, Any]) -> int:
    return sum(
        client.get(outcome) or 0 for outcome in ("ok", "degraded", "failed", "unsure", "not_sent")
    )


def _middle(interval: Any) -> float | None:
    if not isinstance(interval, Sequence) or len(interval) != 2:
        return None
    return (float(interval[0]) + float(interval[1])) / 2


_CLOCKED = ("recovery", "failover", "failback")


def _recovery_cards(page: Page) -> list[tuple[str, str, str]]:
    """One card for each recovery; failover and failback where there is no recovery to show."""
    found = []
    for kind in _CLOCKED:
        texts = {o.text for o in page.plan.objectives if o.kind == kind}
        for finding in page.findings:
            if finding.get("objective") in texts:
                fault = str(finding.get("phase") or "").partition(":")[2]
                title = f"{kind.capitalize()}: {fault}"
                found.append((title, *_clocked(finding)))
    return found


def _clocked(finding: Finding) -> tuple[str, str]:
    """The longest a recovery may have taken, and below it the interval and what is required."""
    measured, required = finding.get("measured"), str(finding.get("required") or "")
    if not isinstance(measured, Mapping) or measured.get("value") is None:
        shown = words.measured(measured if isinstance(measured, Mapping) else None)
        return shown.replace("more than", ">"), f"required: {required}"
    low, high = measured.get("low"), measured.get("high")
    if high == 0:
        return "0 s", f"never stopped being good; required: {required}"
    within = ""
    if low is not None and high is not None and high - low >= 0.05:
        within = f"{low:.1f}–{high:.1f} s; "
    return words.seconds(measured["value"]), f"{within}required: {required}"


def _upload_cards(page: Page) -> list[tuple[str, str, str]]:
    texts = {o.text for o in page.plan.objectives if o.kind == "durability"}
    kept = _to_be_kept(page.evidence)
    present = {r.object for r in _at_the_end(page.evidence) if r.result == "present"} & kept
    if not texts or not kept:
        return []
    under = f"read back whole, of {len(kept):,} acknowledged and not deleted"
    return [("Uploads verified", f"{len(present):,}", under)]


def _at_the_end(evidence: Evidence) -> list[Readback]:
    """What was found of the objects after the run."""
    return [readback for readback in evidence.readbacks if not readback.phase]


def _to_be_kept(evidence: Evidence) -> set[str]:
    """Objects acknowledged and surely not deleted."""
    acked = {e.object for e in evidence.ledger if e.kind == "write" and e.outcome == "acked"}
    deleted = {e.object for e in evidence.ledger if e.kind == "delete" and e.outcome != "failed"}
    return acked - deleted


def _card(label: str, figure: str, under: str) -> Safe:
    return tag(
        "div",
        tag("div", label, class_="label"),
        tag("div", figure, class_="figure"),
        tag("div", under, class_="under"),
        class_="card",
    )


# ---- findings ------------------------------------------------------------------------------------


def findings(page: Page) -> Safe:
    """Every finding, by phase, with its evidence."""
    grouped = words.by_phase(page.findings, [p.name for p in page.plan.phases])
    parts: list[Child] = [tag("h2", "Findings")]
    if not grouped:
        parts.append(tag("p", "Nothing was judged.", class_="soft"))
    for name, found in grouped.items():
        mark = tag("span", " · ", outcome_mark(words.worst(found)), class_="section-mark")
        parts.append(tag("h3", words.phase(name), mark))
        parts.append(
            table(
                ["Outcome", "What", "Measured", "Required", "Because"],
                [_finding_row(page, f) for f in found],
                class_="findings-table",
            )
        )
    return tag("section", *parts, id="findings")


def _finding_row(page: Page, finding: Finding) -> Safe:
    evidence = [str(e) for e in finding.get("evidence") or ()]
    shown = None
    if evidence:
        items = tag("ul", *(tag("li", tag("code", e)) for e in evidence))
        shown = tag("details", tag("summary", "evidence"), items)
    return tag(
        "tr",
        td(outcome_mark(finding.get("outcome"))),
        th(str(finding.get("objective")), scope="row"),
        td(page.measured(finding)),
        td(str(finding.get("required") or "–")),
        td(str(finding.get("because") or "–"), shown, class_="why"),
    )


# ---- figures per phase -------------------------------------------------------------------------


def figures(page: Page) -> Safe | None:
    """Client and Prometheus side by side, per phase."""
    if not page.figures:
        return None
    degrades = any((p.get("client") or {}).get("degraded") for p in page.figures)
    client = [
        "Planned",
        "Sent",
        *(["Degraded"] if degrades else []),
        "Availability",
        "Achieved",
        "P50",
        "P95",
        "P99",
        "≤ 200 ms",
    ]
    seen = ["Requests", "5xx", "≤ 200 ms"]
    top = tag(
        "tr",
        tag("th", "", scope="col"),
        tag("th", "Clients", colspan=len(client), scope="colgroup", class_="group-start"),
        tag("th", "Prometheus", colspan=len(seen), scope="colgroup", class_="group-start"),
    )
    names = [th("Phase"), *_headers(client), *_headers(seen)]
    grid = tag(
        "table",
        tag("thead", top, tag("tr", *names)),
        tag("tbody", *(_figure_row(p, degrades) for p in page.figures)),
        class_="phases-table",
    )
    return tag(
        "section",
        tag("h2", "Figures per phase"),
        tag("p", "Two independent views: what the clients counted from each request's planned "
            "instant, and what the gateways told Prometheus.", class_="soft"),
        tag("div", grid, class_="scroll"),
        _errors(page),
    )  # fmt: skip


def _headers(names: Iterable[str]) -> list[Safe]:
    return [th(n, class_="num" + (" group-start" if i == 0 else "")) for i, n in enumerate(names)]


def _figure_row(figures: Mapping[str, Any], degrades: bool) -> Safe:
    client = figures.get("client") or {}
    seen = figures.get("prometheus") or {}
    latency = client.get("latency_s") or {}
    cells = [
        _count(client.get("planned")),
        _count(client.get("sent")),
        *([_count(client.get("degraded"))] if degrades else []),
        _share(client.get("availability")),
        words.measured({"value": client.get("rate"), "unit": "/s"})
        if client.get("rate") is not None
        else "–",
        *(_latency(latency, q, client) for q in ("p50", "p95", "p99")),
        _share(client.get("below_200ms")),
    ]
    row = [th(words.phase(figures.get("phase")), scope="row", class_="nowrap")]
    row += [td(c, class_="num" + (" group-start" if i == 0 else "")) for i, c in enumerate(cells)]
    if seen.get("why_not"):
        row.append(tag("td", str(seen["why_not"]), colspan=3, class_="group-start soft"))
    else:
        row += [
            td(_count(seen.get("requests")), class_="num group-start"),
            td(words.percent(seen.get("error_rate")), class_="num"),
            td(_share(seen.get("below_200ms")), class_="num"),
        ]
    return tag("tr", *row)


def _latency(latency: Mapping[str, Any], name: str, client: Mapping[str, Any]) -> str:
    """A quantile over the planned arrivals: what did not succeed is slower than anything."""
    found = _middle(latency.get(name))
    if found is None and client.get("ok"):
        failed = sum(client.get(outcome) or 0 for outcome in ("failed", "unsure", "not_sent"))
        return "failed" if failed >= (client.get("degraded") or 0) else "degraded"
    return words.millis(found)


def _count(value: Any) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _share(pair: Any) -> str:
    if not isinstance(pair, Sequence) or len(pair) != 2:
        return "–"
    low, high = words.percent(pair[0]), words.percent(pair[1])
    return low if low == high else f"{low[:-2]}–{high}"


def _errors(page: Page) -> Safe | None:
    rows = []
    for figures in page.figures:
        client = figures.get("client") or {}
        errors = client.get("errors") or {}
        for error, n in errors.items():
            name = words.phase(figures.get("phase"))
            rows.append(
                tag("tr", th(name, scope="row", class_="nowrap"), td(str(error)),
                    td(_count(n), class_="num"))
            )  # fmt: skip
    if not rows:
        return None
    listed = table([th("Phase"), th("Error"), th("Requests", class_="num")], rows)
    return tag("details", tag("summary", "Errors the clients saw, by phase"), listed)


def durability(page: Page) -> Safe | None:
    """What became of every upload."""
    ledger, readbacks = page.evidence.ledger, page.evidence.readbacks
    if not ledger and not readbacks:
        return None
    rows = []
    for kind, outcomes in (("write", ("acked", "failed", "unsure")), ("delete", ())):
        mine = [entry.outcome for entry in ledger if entry.kind == kind]
        for outcome in dict.fromkeys([*outcomes, *sorted(mine)]):
            label = {"write": "Uploads", "delete": "Deletes"}[kind]
            shown = {"acked": "acknowledged", "unsure": "unsure (may have happened)"}
            rows.append((f"{label} {shown.get(outcome, outcome)}", mine.count(outcome)))
    results = [r.result for r in _at_the_end(page.evidence)]
    for result in dict.fromkeys(["present", "missing", "altered", "error", *sorted(results)]):
        rows.append((f"Objects read back: {result}", results.count(result)))
    for found in page.evidence.passes:
        during = words.phase(found.phase)
        mine = [r.result for r in readbacks if r.phase == found.phase]
        rows.append((f"Asked for during {during}", found.asked))
        for result in sorted({*mine} - {"present"}):
            rows.append((f"Asked for during {during}: {result}", mine.count(result)))
    listings = page.evidence.listings
    if listings:
        rows.append(("Objects in the service's list", sum(x.listed for x in listings)))
        rows.append(
            ("Listed twice, or under a second id", sum(x.twice + x.copies for x in listings))
        )
    texts = {o.text for o in page.plan.objectives if o.kind == "durability"}
    said = [f for f in page.findings if f.get("objective") in texts]
    judged = [tag("p", outcome_mark(f.get("outcome")), f"  {f.get('because')}") for f in said]
    counts = [tag("tr", th(name, scope="row"), td(_count(n), class_="num")) for name, n in rows]
    return tag(
        "section",
        tag("h2", "Durability"),
        *judged,
        table([th("Ledger"), th("Count", class_="num")], counts),
        tag("p", "An object deleted during the run is rightly missing afterwards.", class_="hint"),
        *_followed(page.evidence.followed),
    )


def _followed(share: float) -> list[Safe]:
    if share >= 1.0:
        return []
    text = f"Counted are the objects followed: {share * 100:.3g} % of all, chosen by a hash."
    return [tag("p", text, class_="hint")]


def gaps(page: Page) -> Safe | None:
    """Evidence that should be there and is not."""
    found = [g for g in page.verdict.get("gaps") or () if isinstance(g, Mapping)]
    if not found:
        return None
    rows = [
        tag("tr", th(str(g.get("source")), scope="row"), td(str(g.get("what"))),
            td(words.phase(g.get("phase")) if g.get("phase") else "–"),
            td(str(g.get("detail")), class_="why"))
        for g in found
    ]  # fmt: skip
    return tag(
        "section",
        tag("h2", "Missing evidence"),
        tag("p", "What is missing is never taken for a pass.", class_="soft"),
        table(["Source", "What", "Phase", "Detail"], rows),
    )
