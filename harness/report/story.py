"""The parts of ``report.html`` that tell the day: timeline, failover, faults, target, rerun."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.evidence.model import FaultRecord
from harness.report import words
from harness.report.chart import timeline as draw
from harness.report.markup import Child, Safe, table, tag, td, text, th
from harness.report.moments import Moment, groups
from harness.report.sections import Page

_PART_TITLES = {"fault": "landed and undone", "failover": "failover", "failback": "failback"}
_TARGETS_SHOWN = 6


def timeline(page: Page) -> Safe:
    """The drawing, and the list that explains its numbers."""
    names = page.plan.target
    drawn = draw(
        page.evidence, page.moments, page.plan.thresholds_s, (names.primary, names.standby)
    )
    if not drawn:
        nothing = tag("p", "No phase was recorded: there is nothing to draw.", class_="soft")
        return tag("section", tag("h2", "Timeline"), nothing)
    return tag(
        "section",
        tag("h2", "Timeline"),
        tag("p", "Numbered marks are explained below the drawing; red bars at the top: a fault "
            "is in place. Times are minutes and seconds from the start of the baseline.",
            class_="soft"),
        tag("figure", drawn, class_="chart"),
        _legend(page),
    )  # fmt: skip


def _legend(page: Page) -> Safe | None:
    """Every numbered instant, in the order it happened, then what did not happen."""
    if not page.moments:
        return None
    known = sorted((m for m in page.moments if m.number is not None), key=lambda m: m.number or 0)
    never = [m for m in page.moments if m.number is None]
    return table(
        ["Mark", th("At", class_="num"), "What", th("After", class_="num"),
         th("Expected within", class_="num"), th("Known to within", class_="num")],
        [_legend_row(page, m) for m in (*known, *never)],
        class_="legend-table",
    )  # fmt: skip


def _legend_row(page: Page, moment: Moment) -> Safe:
    happened = moment.t is not None
    context = None if moment.part == "fault" else f" · {moment.part}: {moment.fault}"
    what = [
        moment.what,
        tag("span", context, class_="soft") if context else None,
        None if happened else tag("div", _not_seen(moment), class_="hint"),
    ]
    return tag(
        "tr",
        td(tag("span", str(moment.number), class_="dot") if moment.number else "–"),
        td(page.clock(moment.t), class_="num"),
        th(what, scope="row"),
        td(_after(moment), class_="num"),
        td(words.seconds(moment.expected_s), class_="num"),
        td(_spread(moment) if happened else "–", class_="num"),
        class_=None if happened else "missing",
    )


def _after(moment: Moment) -> str:
    """How long after what its clock is started by; nothing for the start itself."""
    first = "restored" if moment.part == "failback" else "landed"
    if moment.after_s is None or moment.step == first:
        return "–"
    origin = "restoration" if moment.part == "failback" else "landing"
    return f"{words.seconds(moment.after_s)} after {origin}"


def _not_seen(moment: Moment) -> str:
    return moment.because or "not seen"


def _spread(moment: Moment) -> str:
    return f"{moment.uncertainty_s:.1f} s" if moment.uncertainty_s >= 0.05 else "< 0.1 s"


# ---- failover and failback --------------------------------------------------------------------


def failover(page: Page) -> Safe | None:
    """Each way there and back, step by step: measured beside expected."""
    ways = {k: v for k, v in groups(page.moments).items() if k[1] != "fault"}
    if not ways:
        return None
    parts: list[Child] = [tag("h2", "Failover and failback")]
    parts.append(
        tag("p", "Bar: measured, the black end its uncertainty. Dashed: expected from the live "
            "configuration.", class_="soft")
    )  # fmt: skip
    for (fault, part), steps in ways.items():
        origin = "restoration began" if part == "failback" else "fault landed"
        title = f"{_PART_TITLES.get(part, part).capitalize()}: {fault}"
        parts.append(tag("h3", title))
        longest = max(
            [f for m in steps for f in (m.after_s, m.expected_s) if f is not None], default=1.0
        )
        rows = [_step_row(page, m, max(longest, 0.1)) for m in steps]
        head: list[Child] = ["Mark", "Step", th("At", class_="num"),
                             th(f"Seconds since {origin}", class_="num"),
                             th("Expected within", class_="num"), "", "Compared"]  # fmt: skip
        parts.append(table(head, rows, class_="steps-table"))
    parts.append(_expectations(page))
    return tag("section", *parts)


def _step_row(page: Page, moment: Moment, longest_s: float) -> Safe:
    happened = moment.t is not None
    return tag(
        "tr",
        td(tag("span", str(moment.number), class_="dot") if moment.number else "–"),
        th(moment.what, scope="row"),
        td(page.clock(moment.t), class_="num"),
        td(_interval(moment) if happened else "–", class_="num"),
        td(words.seconds(moment.expected_s), class_="num"),
        td(_bar(moment, longest_s), class_="span"),
        td(_compared(moment)),
        class_=None if happened else "missing",
    )


def _interval(moment: Moment) -> str:
    if moment.after_s is None:
        return "–"
    if moment.uncertainty_s < 0.05:
        return f"{moment.after_s:.1f}"
    return f"{max(0.0, moment.after_s - moment.uncertainty_s):.1f}–{moment.after_s:.1f}"


def _compared(moment: Moment) -> str:
    if moment.t is None:
        return _not_seen(moment)
    if moment.expected_s is None or moment.after_s is None:
        return ""
    surely = moment.after_s - moment.uncertainty_s
    if moment.after_s <= moment.expected_s:
        return "as expected"
    if surely > moment.expected_s:
        return f"{surely - moment.expected_s:.1f} s later than expected"
    return "within its uncertainty"


def _bar(moment: Moment, longest_s: float) -> Safe:
    """A bar on a common scale. Its figures stand in the cells beside it."""

    def x(value_s: float) -> float:
        return 1 + 996 * max(0.0, value_s) / longest_s

    parts = []
    if moment.expected_s is not None:
        parts.append(tag("rect", class_="expected", x=1, y=2, width=x(moment.expected_s) - 1,
                         height=14, vector_effect="non-scaling-stroke"))  # fmt: skip
    if moment.t is not None and moment.after_s is not None:
        early = max(0.0, moment.after_s - moment.uncertainty_s)
        late = moment.expected_s is not None and early > moment.expected_s
        width = max(3.0, x(moment.after_s) - 1)
        kind = "took late" if late else "took"
        parts.append(tag("rect", class_=kind, x=1, y=6, width=width, height=6))
        parts.append(tag("rect", class_="within", x=x(early), y=4, height=10,
                         width=max(3.0, x(moment.after_s) - x(early))))  # fmt: skip
    return tag("svg", *parts, class_="bar", viewBox="0 0 1000 18", preserveAspectRatio="none",
               aria_hidden="true")  # fmt: skip


def _expectations(page: Page) -> Safe | None:
    """Where the expected times come from."""
    rows = []
    for name, step in page.plan.expected.items():
        if not isinstance(step, Mapping) or "because" not in step:
            continue
        value = step.get("value_s")
        shown = words.seconds(value) if isinstance(value, (int, float)) else "not known"
        label = str(name).removesuffix("_s").replace("_", " ")
        rows.append(tag("tr", th(label, scope="row"), td(shown, class_="num"),
                        td(str(step["because"]))))  # fmt: skip
    if not rows:
        return None
    listed = table(["Step", th("Expected within", class_="num"), "Because"], rows)
    return tag("details", tag("summary", "Where the expected times come from"), listed)


# ---- faults --------------------------------------------------------------------------------------


def faults(page: Page) -> Safe | None:
    """What was broken, when, who saw it, and that it was mended."""
    names = [f.name for f in page.plan.faults]
    names += [f.fault for f in page.evidence.faults if f.fault not in names]
    if not names:
        return None
    rows = [row for name in dict.fromkeys(names) for row in _fault_rows(page, name)]
    head = ["What was done", "Targets", "Made at", "Read back", "Taken back at", "Verified"]
    return tag(
        "section",
        tag("h2", "Faults"),
        table(head, rows),
    )


def _fault_rows(page: Page, name: str) -> Iterable[Safe]:
    fault = next((f for f in page.plan.faults if f.name == name), None)
    title: list[Child] = [name]
    if fault is not None:
        title += [tag("span", f" · {fault.title or fault.experiment}", class_="soft")]
    seen = _about(page, name, "fault landed")
    yield tag("tr", tag("th", title, seen, colspan=6, scope="rowgroup"), class_="group")
    actions = page.evidence.actions(name)
    if not actions:
        yield tag("tr", tag("td", "no record that anything was done", colspan=6, class_="soft"))
    for action in actions:
        yield _action_row(page, action)


def _about(page: Page, fault: str, objective: str) -> Safe | None:
    """What the judge says of the landing: seen by whom, or why it does not count."""
    for finding in page.findings:
        if finding.get("phase") == f"fault:{fault}" and finding.get("objective") == objective:
            return tag("div", str(finding.get("because") or ""), class_="hint")
    return None


def _action_row(page: Page, action: FaultRecord) -> Safe:
    holds = {True: "in place", False: "not in place", None: "not read back"}[action.holds]
    if action.undo is None:
        undone, verified = "nothing to undo", "–"
    else:
        undone = page.clock(action.undo_done_t) if action.undo_done_t else "never"
        verified = {True: "restored", False: "not restored", None: "not read back"}[action.restored]
    shown = list(action.targets[:_TARGETS_SHOWN])
    more = len(action.targets) - len(shown)
    targets: list[Child] = [text(tag("code", t), " ") for t in shown]
    if more > 0:
        targets.append(tag("span", f"and {more} more", class_="soft"))
    return tag(
        "tr",
        th(action.action, scope="row"),
        td(targets or "–", class_="why"),
        td(page.clock(action.call_end_t) if action.call_end_t else "never", class_="nowrap"),
        td(holds),
        td(undone, class_="nowrap"),
        td(verified),
    )


# ---- the target, and how to do it again ----------------------------------------------------------


def target(page: Page) -> Safe | None:
    """What the target simulates and what it does not."""
    does = [str(s) for s in page.target.get("simulates") or ()]
    does_not = [str(s) for s in page.target.get("not_simulated") or ()]
    if not does and not does_not:
        return None
    return tag(
        "section",
        tag("h2", f"What “{page.target.get('name', 'the target')}” simulates"),
        tag("div", _listed("Simulated", does), _listed("Not simulated", does_not), class_="two"),
    )


def _listed(title: str, items: Sequence[str]) -> Safe:
    shown = tag("ul", *(tag("li", i) for i in items), class_="plain") if items else tag("p", "–")
    return tag("div", tag("h3", title), shown)


def again(page: Page) -> Safe:
    """The command, and everything that must be the same for it to mean the same."""
    plan = page.plan
    recorded = plan.recorded
    traffic = plan.traffic
    rate = traffic.shape or f"{traffic.rate:g}/s"
    given = [] if traffic.recording else ["--rate", rate]
    run = shlex.join(["harness", "run", plan.file, *given])
    rows = [
        ("Run", str(page.verdict.get("run") or page.evidence.run)),
        ("Seed", str(plan.traffic.seed)),
        ("Traffic", f"{traffic.recording.words if traffic.recording else rate} {traffic.arrivals}, "
         f"{plan.traffic.locustfile}, timeout {plan.traffic.timeout_s:g} s"),
        ("SHA-256 of the plan", plan.sha256),
        *((f"SHA-256 of {name}", str(digest))
          for name, digest in sorted(_mapping(recorded.get("sha256s")).items())),
    ]  # fmt: skip
    versions = ", ".join(f"{k} {v}" for k, v in sorted(_mapping(recorded.get("versions")).items()))
    if versions:
        rows.append(("Versions", versions))
    code = {"Run", "Seed"}
    listed = [
        tag("tr", th(name, scope="row", class_="nowrap"),
            td(tag("code", value) if name in code or name.startswith("SHA") else value))
        for name, value in rows
    ]  # fmt: skip
    judge_again = "harness judge RUN && harness report RUN"
    return tag(
        "section",
        tag("h2", "Run it again"),
        tag("pre", tag("code", f"{run}\n# judge this folder again, offline: {judge_again}")),
        tag("div", tag("table", tag("tbody", *listed)), class_="scroll"),
        tag("details", tag("summary", "The plan as it was read"),
            tag("pre", tag("code", plan.text))) if plan.text else None,
    )  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
