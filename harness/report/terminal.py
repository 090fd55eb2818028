"""The verdict in a terminal: the outcome, then why, then every finding in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from harness.plan.model import Plan
from harness.report import words

_COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}


def render(plan: Plan, verdict: Mapping[str, Any]) -> str:
    """Text with colours (``click.echo`` strips them where they do not belong)."""
    outcome = verdict["outcome"]
    lines = [
        "",
        _paint(f" {words.HEADLINES[outcome]} ", outcome, reverse=True)
        + f" {plan.name}: {verdict['summary']}",
        "",
    ]
    phase = None
    for finding in verdict["findings"]:
        if finding["phase"] != phase:
            phase = finding["phase"]
            lines.append(click.style(f"  {phase or 'run'}", bold=True))
        lines += _finding(finding)
    for part in ("failover", "failback"):
        lines += _steps(part, verdict["timeline"])
    return "\n".join(lines)


def _finding(finding: Mapping[str, Any]) -> list[str]:
    outcome = finding["outcome"]
    line = (
        f"    {_paint(words.MARKS[outcome], outcome)} {finding['objective']:44} "
        f"{words.measured(finding['measured'])}"
    )
    return [line] if outcome == "pass" else [line, f"        {finding['because']}"]


def _steps(part: str, timeline: list[Mapping[str, Any]]) -> list[str]:
    steps = [s for s in timeline if s.get("part") == part]
    if not steps:
        return []
    lines = [click.style(f"  {part}", bold=True)]
    for step in steps:
        after = "      –" if step["after_s"] is None else f"{step['after_s']:6.1f} s"
        expected = step.get("expected_s")
        hint = f"  expected ≤ {expected:.1f} s" if expected is not None else ""
        lines.append(f"    {after}  {step['what']}{hint}")
    return lines


def _paint(text: str, outcome: str, *, reverse: bool = False) -> str:
    return click.style(text, fg=_COLOURS[outcome], bold=True, reverse=reverse)
