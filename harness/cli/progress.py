"""How a run is shown while it goes: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from harness.load.driver import LIVE_WINDOW_S
from harness.plan.model import Availability, ErrorRate, Latency, Objective, Throughput

if TYPE_CHECKING:
    from harness.load.driver import LiveFigures
    from harness.plan.model import Phase
    from harness.target.preflight import Check

#: Where output is not a terminal, figures are told this often (seconds).
_PLAIN_PERIOD_S = 10.0
#: Share of the arrivals that may be missing for the others to stand for all.
_LITTLE = 0.001


class PlainProgress:
    """A line per event, and one per ten seconds of a phase."""

    def __init__(self) -> None:
        self._told_s: float | None = None

    def note(self, text: str) -> None:
        click.echo(text)

    def checks(self, checks: list[Check]) -> None:
        passed = sum(c.ok is True for c in checks)
        click.echo(f"preflight: {passed} of {len(checks)} checks passed")
        for check in checks:
            if check.ok is not True:
                click.echo(f"  {'✗' if check.ok is False else '?'} {check.name}: {check.detail}")

    def phase(self, phase: Phase, index: int, count: int) -> None:
        self._told_s = None
        click.echo(f"[{index + 1}/{count}] {phase.name} ({phase.duration_s:g} s)")

    def tick(
        self, remaining_s: float, figures: LiveFigures | None, faults: Mapping[str, str]
    ) -> None:
        if self._told_s is None or self._told_s - remaining_s >= _PLAIN_PERIOD_S:
            if self._told_s is not None:
                parts = [_figures(figures), *_in_place(faults), f"{remaining_s:.0f} s to go"]
                click.echo("    " + ", ".join(parts))
            self._told_s = remaining_s


class LiveProgress(PlainProgress):
    """Redraws its last lines with rich while a phase runs: figures, faults, objectives."""

    def __init__(self, live: Any, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self._live = live
        self._objectives = objectives
        self._title = ""
        self._phase = ""

    def note(self, text: str) -> None:
        self._live.console.print(text, highlight=False)

    def checks(self, checks: list[Check]) -> None:
        passed = sum(c.ok is True for c in checks)
        self.note(f"preflight: {passed} of {len(checks)} checks passed")
        for check in checks:
            if check.ok is not True:
                self.note(f"  {'✗' if check.ok is False else '?'} {check.name}: {check.detail}")

    def phase(self, phase: Phase, index: int, count: int) -> None:
        self._title = f"[{index + 1}/{count}] {phase.name}"
        self._phase = phase.name
        self.note(f"{self._title} ({phase.duration_s:g} s)")

    def tick(
        self, remaining_s: float, figures: LiveFigures | None, faults: Mapping[str, str]
    ) -> None:
        lines = [f"  {self._title}: {_figures(figures)} · {remaining_s:.0f} s to go"]
        if faults:
            told = (f"{name} {state}" for name, state in faults.items())
            lines.append(f"  faults: {' · '.join(told)}")
        held = standing(self._objectives, self._phase, figures)
        if held:
            told = (f"{_SIGNS[ok]} {objective}" for objective, ok in held.items())
            lines.append(f"  last {LIVE_WINDOW_S} s: {' · '.join(told)}")
        self._live.update("\n".join(lines))


_SIGNS = {True: "✓", False: "✗", None: "?"}


def standing(
    objectives: Sequence[Objective], phase: str, figures: LiveFigures | None
) -> dict[str, bool | None]:
    """Objective → whether the last seconds' figures meet it; None where they cannot say.

    Only objectives of ``phase``; nothing is said of any while more than a little of the load is
    not sent. For the eye: the verdict is given afterwards, on all the evidence of the phase and
    not on its last seconds.
    """
    found: dict[str, bool | None] = {}
    for objective in objectives:
        if not isinstance(objective, Availability | ErrorRate | Latency | Throughput):
            continue
        if phase in objective.phases:
            found[f"{objective.kind}: {objective.text}"] = _holds(objective, figures)
    return found


def _holds(objective: Objective, figures: LiveFigures | None) -> bool | None:
    if figures is None or figures.error_ratio is None or getattr(objective, "operations", ()):
        return None
    if (figures.not_sent_ratio or 0.0) > _LITTLE:
        return None  # the service was not asked
    match objective:
        case Availability():
            return 1.0 - figures.error_ratio >= objective.at_least
        case ErrorRate():
            return figures.error_ratio < objective.below
        case Throughput():
            wanted = max(objective.at_least * figures.planned_rate, objective.at_least_per_s)
            return figures.achieved_rate >= wanted
        case Latency(fraction=0.95) if figures.p95_s is not None:
            return figures.p95_s < objective.below_s
    return None


def _in_place(faults: Mapping[str, str]) -> list[str]:
    return [f"{name} {state}" for name, state in faults.items() if state != "undone"]


def _figures(figures: LiveFigures | None) -> str:
    if figures is None:
        return "no traffic figures yet"
    p95 = "–" if figures.p95_s is None else f"{figures.p95_s * 1000:.0f} ms"
    errors = "–" if figures.error_ratio is None else f"{figures.error_ratio * 100:.2f} %"
    not_sent = f"not sent {figures.not_sent_ratio * 100:.2f} %, " if figures.not_sent_ratio else ""
    return (
        f"{figures.achieved_rate:.0f} of {figures.planned_rate:.0f} req/s, "
        f"{not_sent}errors {errors}, P95 {p95}"
    )


@contextmanager
def progress(objectives: Sequence[Objective]) -> Iterator[PlainProgress]:
    """The progress display that fits standard output."""
    if not sys.stdout.isatty():
        yield PlainProgress()
        return
    from rich.live import Live

    with Live("", refresh_per_second=4, transient=True) as live:
        yield LiveProgress(live, objectives)
