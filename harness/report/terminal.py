"""The verdict in a terminal: the outcome, then why, then every finding in a line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import click

from harness.plan.model import Plan
from harness.report import words

_COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}
_WIDTH = 96
_CONTROL = {code: "�" for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\t\n"}


def render(plan: Plan, verdict: Mapping[str, Any]) -> str:
    """Text with colours (``click.echo`` strips them where they do not belong)."""
    outcome = words.outcome_of(verdict.get("outcome"))
    findings = list(verdict.get("findings") or ())
    timeline = list(verdict.get("timeline") or ())
    start_t = _start(verdict)
    badge = click.style(f" {words.MARKS[outcome]} {words.HEADLINES[outcome]} ",
                        fg=_COLOURS[outcome], bold=True, reverse=True)  # fmt: skip
    lines = ["", f"{badge} {click.style(_clean(plan.name), bold=True)}"]
    lines += [*_wrapped(verdict.get("summary") or "no summary", "  "), ""]
    for phase, found in words.by_phase(findings, [p.name for p in plan.phases]).items():
        lines.append(click.style(f"  {_clean(words.phase(phase))}", bold=True))
        for finding in found:
            lines += _finding(finding, start_t)
    for part in ("failover", "failback"):
        lines += _steps(part, timeline)
    lines += _notice(verdict)
    return "\n".join(lines)


def _start(verdict: Mapping[str, Any]) -> float | None:
    starts = [p.get("start_t") for p in verdict.get("phases") or ()]
    known = [s for s in starts if isinstance(s, (int, float))]
    return min(known, default=None)


def _clean(value: object) -> str:
    """Text without control characters: evidence must not move the cursor."""
    return str(value).translate(_CONTROL)


def _wrapped(value: object, indent: str) -> list[str]:
    return textwrap.wrap(_clean(value), _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _finding(finding: Mapping[str, Any], start_t: float | None) -> list[str]:
    outcome = words.outcome_of(finding.get("outcome"))
    mark = click.style(words.MARKS[outcome], fg=_COLOURS[outcome], bold=True)
    measured = words.measured(finding.get("measured"), start_t)
    line = f"    {mark} {_clean(finding.get('objective')):40} {_clean(measured)}".rstrip()
    if outcome == "pass":
        return [line]
    return [line, *_wrapped(finding.get("because") or "no reason given", "        ")]


def _steps(part: str, timeline: Iterable[Mapping[str, Any]]) -> list[str]:
    steps = [s for s in timeline if s.get("part") == part]
    if not steps:
        return []
    origin = "restoration" if part == "failback" else "landing"
    lines = [click.style(f"  {part.capitalize()}", bold=True) + f", seconds after the {origin}"]
    for step in steps:
        after = step.get("after_s")
        figure = f"{after:8.1f} s" if step.get("t") is not None and after is not None else (
            click.style(f"{'not seen':>10}", fg="red"))  # fmt: skip
        expected = step.get("expected_s")
        hint = f"  expected ≤ {expected:.1f} s" if isinstance(expected, (int, float)) else ""
        lines.append(f"  {figure}  {_clean(step.get('what')):42}{hint}".rstrip())
    return lines


def _notice(verdict: Mapping[str, Any]) -> list[str]:
    target = verdict.get("target") or {}
    if not target.get("simulated"):
        return []
    name = _clean(target.get("name", "a stand-in"))
    return ["", f"  measured on {name}, a simulated target: its times are not production times"]
