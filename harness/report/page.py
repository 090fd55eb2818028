"""``report.html``: the verdict, why, the day, then every finding with its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from harness.evidence.model import Evidence
from harness.plan.model import Plan
from harness.report import chart, words
from harness.report.figures import span
from harness.report.markup import Safe, table, tag, td, text, th
from harness.report.moments import Moment, groups, moments


def render(plan: Plan, evidence: Evidence, verdict: Mapping[str, Any]) -> bytes:
    """The whole page as UTF-8 bytes; the same for the same run."""
    found = moments(plan, evidence, verdict)
    body = tag(
        "main",
        _head(plan, evidence, verdict),
        _notice(verdict),
        _why(verdict),
        _facts(verdict),
        _day(plan, evidence, found),
        _ways(found, evidence),
        _faults(evidence),
        _findings(plan, evidence, verdict),
        _phases(verdict),
        _gaps(verdict),
        _target(verdict),
        _again(plan),
    )
    title = f"{words.HEADLINES[words.outcome_of(verdict.get('outcome'))]} – {plan.name}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width,initial-scale=1"),
        tag("title", title),
        tag("style", Safe(_style())),
    )
    return ("<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n").encode()


def _style() -> str:
    return resources.files("harness.report").joinpath("report.css").read_text(encoding="utf-8")


def _head(plan: Plan, evidence: Evidence, verdict: Mapping[str, Any]) -> Safe:
    outcome = words.outcome_of(verdict.get("outcome"))
    start, end = span(evidence)
    mark = f"{words.MARKS[outcome]} {words.HEADLINES[outcome]}"
    ran = f"{words.utc(start)} · {words.duration(end - start)} · " if end > start else ""
    target = str((verdict.get("target") or {}).get("name") or plan.target.service)
    return text(
        tag(
            "div",
            tag("div", mark, class_=f"badge {outcome}"),
            tag("h1", f"{plan.name}: {verdict.get('summary') or ''}"),
            class_="verdict",
        ),
        tag(
            "p",
            f"{plan.description} Against {target} · {ran}{plan.traffic.rate:g} planned arrivals "
            f"per second ({plan.traffic.arrivals}) · exit status {verdict.get('exit_status')}",
            class_="soft",
        ),
    )


def _notice(verdict: Mapping[str, Any]) -> Safe | None:
    target = verdict.get("target") or {}
    if not target.get("simulated"):
        return None
    scale = target.get("time_scale") or 1
    return tag(
        "p",
        tag("b", "Measured on a stand-in. "),
        f"{target.get('name')} runs on one machine and divides the intervals of the AWS control "
        f"plane by {scale:g}: no time on this page is a production time.",
        class_="notice",
    )


def _why(verdict: Mapping[str, Any]) -> Safe | None:
    bad = [f for f in verdict.get("findings") or () if words.outcome_of(f["outcome"]) != "pass"]
    bad.sort(key=lambda f: words.WORST_FIRST.index(words.outcome_of(f["outcome"])))
    if not bad:
        return None
    items = [
        tag(
            "li",
            tag(
                "b",
                f"{words.MARKS[words.outcome_of(f['outcome'])]} {f['objective']}",
                class_=words.outcome_of(f["outcome"]),
            ),
            tag("span", words.phase(f["phase"]), class_="soft"),
            tag("br"),
            f["because"],
        )
        for f in bad
    ]
    return text(tag("h2", "Why"), tag("ul", *items, class_="why"))


def _facts(verdict: Mapping[str, Any]) -> Safe:
    """The few figures that matter, whatever the outcome."""
    base = next((p for p in verdict.get("phases") or () if p["phase"] == "baseline"), None)
    facts: list[tuple[str, str]] = []
    if base is not None:
        client = base["client"]
        facts.append((words.percent((client["availability"] or [None])[0]), "available, baseline"))
        p95 = client["latency_s"]["p95"]
        facts.append(
            (words.millis(p95[1] if p95 else None), "P95 from the planned instant, baseline")
        )
    for finding in verdict.get("findings") or ():
        if finding["objective"].startswith("recovery"):
            name = words.phase(finding["phase"]).partition(": ")[2]
            facts.append((words.measured(finding["measured"]), f"until good again: {name}"))
        if finding["objective"].startswith("durability"):
            whole = finding["because"].partition(";")[0]
            facts.append((words.measured(finding["measured"]), whole))
    cells = [tag("div", tag("b", value), tag("span", what), class_="fact") for value, what in facts]
    return tag("div", *cells, class_="facts")


def _day(plan: Plan, evidence: Evidence, found: Sequence[Moment]) -> Safe:
    order = [plan.target.primary, plan.target.standby]
    drawing = chart.timeline(evidence, found, plan.thresholds_s, order)
    if not drawing:
        return text(tag("h2", "The day"), tag("p", "No phase ran.", class_="soft"))
    return text(tag("h2", "The day"), tag("figure", drawing))


def _ways(found: Sequence[Moment], evidence: Evidence) -> Safe:
    start, _ = span(evidence)
    parts = []
    for (fault, part), steps in groups(found).items():
        rows = []
        for m in steps:
            at = "never" if m.t is None else words.clock(m.t - start)
            spread = f" (−{m.uncertainty_s:.1f})" if m.uncertainty_s >= 0.05 else ""
            rows.append(
                tag(
                    "tr",
                    td(tag("span", str(m.number), class_="n") if m.number else "–"),
                    td(m.what, tag("div", m.because, class_="because") if m.because else None),
                    td(at, class_="num"),
                    td(words.seconds(m.after_s) + spread, class_="num"),
                    td("" if m.expected_s is None else f"≤ {m.expected_s:.1f} s", class_="num"),
                )
            )
        title = {"fault": "made and taken back"}.get(part, part)
        figures = [th(name, class_="num") for name in ("at", "after (− uncertainty)", "expected")]
        head = ("", f"{fault}: {title}", *figures)
        parts.append(table(head, rows))
    return text(tag("h2", "What happened when"), *parts) if parts else Safe("")


def _faults(evidence: Evidence) -> Safe | None:
    start, _ = span(evidence)
    rows = []
    for f in evidence.faults:
        made = "–" if f.call_end_t is None else words.clock(f.call_end_t - start)
        undone = "–" if f.undo_done_t is None else words.clock(f.undo_done_t - start)
        held = {True: "yes", False: "no", None: "not read back"}
        rows.append(
            tag(
                "tr",
                td(f.fault),
                td(f.action),
                td(", ".join(f.targets)),
                td(made),
                td(held[f.holds]),
                td(undone),
                td(held[f.restored]),
            )
        )
    if not rows:
        return None
    head = ("fault", "action", "targets", "made", "read back", "undone", "restored")
    return text(tag("h2", "Faults"), table(head, rows))


def _findings(plan: Plan, evidence: Evidence, verdict: Mapping[str, Any]) -> Safe:
    start, _ = span(evidence)
    grouped = words.by_phase(verdict.get("findings") or (), [p.name for p in plan.phases])
    parts: list[Safe] = []
    for name, found in grouped.items():
        rows = []
        for f in found:
            outcome = words.outcome_of(f["outcome"])
            evidence_of = tag("details", tag("summary", "evidence"), ", ".join(f["evidence"]))
            rows.append(
                tag(
                    "tr",
                    td(words.MARKS[outcome], class_=f"mark {outcome}"),
                    td(f["objective"]),
                    td(words.measured(f["measured"], start)),
                    td(f["required"]),
                    td(f["because"], evidence_of if f["evidence"] else None, class_="because"),
                )
            )
        parts += [
            tag("h3", words.phase(name)),
            table(("", "objective", "measured", "required", "because"), rows),
        ]
    return text(tag("h2", "Findings"), *parts)


def _phases(verdict: Mapping[str, Any]) -> Safe:
    rows = []
    for p in verdict.get("phases") or ():
        c, seen = p["client"], p["prometheus"]
        p95 = c["latency_s"]["p95"]
        requests = seen["requests"]
        rows.append(
            tag(
                "tr",
                td(words.phase(p["phase"])),
                td(f"{c['planned']:,}", class_="num"),
                td(f"{c['ok']:,}", class_="num"),
                td(f"{c['failed'] + c['unsure']:,}", class_="num"),
                td(f"{c['not_sent']:,}", class_="num"),
                td(words.percent((c["availability"] or [None])[0]), class_="num"),
                td(words.millis(p95[1] if p95 else None), class_="num"),
                td(f"{requests:,.0f}" if requests is not None else seen["why_not"], class_="num"),
                td(words.percent(seen["error_rate"]), class_="num"),
                td(words.percent((c["below_200ms"] or [None])[0]), class_="num"),
                td(words.percent((seen["below_200ms"] or [None])[0]), class_="num"),
            )
        )
    head = (
        "phase",
        "planned",
        "ok",
        "failed or unsure",
        "not sent",
        "available",
        "P95",
        "Prometheus: answers",
        "Prometheus: errors",
        "≤ 200 ms, clients",
        "≤ 200 ms, Prometheus",
    )
    caption = (
        "Clients count planned arrivals; Prometheus counts what gateways answered, so what "
        "never reached one is missing there."
    )
    return text(
        tag("h2", "Client and Prometheus, side by side"), table(head, rows, caption=caption)
    )


def _gaps(verdict: Mapping[str, Any]) -> Safe | None:
    rows = [
        tag("tr", td(g["source"]), td(g["what"]), td(g["phase"] or ""), td(g["detail"]))
        for g in verdict.get("gaps") or ()
    ]
    if not rows:
        return None
    return text(tag("h2", "Missing evidence"), table(("source", "what", "phase", "detail"), rows))


def _target(verdict: Mapping[str, Any]) -> Safe | None:
    target = verdict.get("target") or {}
    does, not_ = target.get("simulates") or (), target.get("not_simulated") or ()
    if not does and not not_:
        return None
    return text(
        tag("h2", "What the stand-in does, and does not"),
        tag("ul", *(tag("li", str(line)) for line in does)),
        tag("p", "Not simulated:"),
        tag("ul", *(tag("li", str(line)) for line in not_)),
    )


def _again(plan: Plan) -> Safe:
    versions = plan.recorded.get("versions")
    lines = [f"harness run {plan.file}", "", f"seed {plan.traffic.seed}, plan sha256 {plan.sha256}"]
    if isinstance(versions, Mapping):
        lines.append(", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    return text(tag("h2", "Run it again"), tag("pre", "\n".join(lines)))
