"""How a run is shown while it goes: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from harness.load.driver import LiveFigures
    from harness.plan.model import Phase
    from harness.target.preflight import Check

#: Where output is not a terminal, figures are told this often (seconds).
_PLAIN_PERIOD_S = 10.0


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

    def tick(self, remaining_s: float, figures: LiveFigures | None) -> None:
        if self._told_s is None or self._told_s - remaining_s >= _PLAIN_PERIOD_S:
            if self._told_s is not None:
                click.echo(f"    {_figures(figures)}, {remaining_s:.0f} s to go")
            self._told_s = remaining_s


class LiveProgress(PlainProgress):
    """Redraws its last lines with rich while a phase runs."""

    def __init__(self, live: Any) -> None:
        super().__init__()
        self._live = live
        self._title = ""

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
        self.note(f"{self._title} ({phase.duration_s:g} s)")

    def tick(self, remaining_s: float, figures: LiveFigures | None) -> None:
        self._live.update(f"  {self._title}: {_figures(figures)} · {remaining_s:.0f} s to go")


def _figures(figures: LiveFigures | None) -> str:
    if figures is None:
        return "no traffic figures yet"
    p95 = "–" if figures.p95_s is None else f"{figures.p95_s * 1000:.0f} ms"
    return (
        f"{figures.achieved_rate:.0f} of {figures.planned_rate:.0f} req/s, "
        f"errors {(figures.error_ratio or 0.0) * 100:.2f} %, P95 {p95}"
    )


@contextmanager
def progress() -> Iterator[PlainProgress]:
    """The progress display that fits standard output."""
    if not sys.stdout.isatty():
        yield PlainProgress()
        return
    from rich.live import Live

    with Live("", refresh_per_second=4, transient=True) as live:
        yield LiveProgress(live)
