"""``harness selftest``: is the judge right about days of which everything is known?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import ExitStatus

if TYPE_CHECKING:
    from harness.selftest.check import Result

WORK = Path("build/selftest")


@click.command()
@click.argument("files", metavar="[CASES]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--fast", is_flag=True, help="Simulated days only: no lab, a few seconds.")
@click.option("--only", metavar="NAME", multiple=True, help="Only the cases of this name.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Leave the simulated run folders there, for `harness judge` and `harness report`.",
)
def selftest(files: tuple[Path, ...], fast: bool, only: tuple[str, ...], keep: Path | None) -> int:
    """Judge days that went wrong in a known way, and healthy ones; tell what was missed.

    First simulated days, then (without --fast) runs on a lab with seeded defects. With CASES, only
    the simulated days described in those files: docs/selftest.md says how they are written.
    Ends with 0 when every defect was caught and no healthy day was called ill, else with 99.
    """
    results = list(_simulated(files, only, keep))
    if not fast and not files:
        results += _on_the_lab(only)
    if not results:
        raise click.BadParameter(f"there is no case named {', '.join(only)}", param_hint="--only")
    from harness.selftest.check import table

    click.echo()
    for line in table(results):
        click.echo(line)
    right = all(result.good for result in results)
    return ExitStatus.PASS if right else ExitStatus.OBJECTIVE_FAILED


def _simulated(files: Sequence[Path], only: Sequence[str], keep: Path | None) -> Iterator[Result]:
    from harness.selftest.cases import DEFECTS, HEALTHY, read_cases, read_days
    from harness.selftest.check import Checker

    days, checker = read_days(), Checker(keep)
    for file in files or (DEFECTS, HEALTHY):
        for case in read_cases(file, days):
            if not only or case.name in only:
                yield _told(checker.check(case))


def _on_the_lab(only: Sequence[str]) -> Iterator[Result]:
    from harness.selftest.cases import read_days
    from harness.selftest.lab import DAYS, LabChecker, read_lab_cases

    cases = read_lab_cases(read_days(DAYS))
    checker = LabChecker(WORK, _lab)
    for result in checker.check(one for one in cases if not only or one.case.name in only):
        yield _told(result)


@contextmanager
def _lab(defects: tuple[str, ...]) -> Iterator[Path]:
    """The target file of a lab of its own, with seeded defects."""
    from harness.lab import handle

    state_dir = WORK / "lab"
    running = handle.up(state_dir, defects=defects, owner=os.getpid())
    seeded = f" with {', '.join(defects)}" if defects else ""
    click.echo(f"lab: up in {running.boot_s:.1f} s{seeded}")
    try:
        yield running.target_file
    finally:
        handle.down(state_dir)


def _told(result: Any) -> Any:
    """A line for a case as soon as it is known."""
    click.echo(f"{result.outcome:11}  {result.name}")
    return result
