"""The judge held against a case: caught, missed, or a false alarm."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ExitStatus
from harness.evidence.run import read_run
from harness.plan.model import Plan
from harness.selftest.cases import Case
from harness.selftest.simulate import Simulator
from harness.verdict import Finding, Outcome, Verdict, judge

#: Plans of which days are kept.
_KEPT = 4
CAUGHT, MISSED, FALSE_ALARM, RIGHT = "caught", "MISSED", "FALSE ALARM", "right"


@dataclass(frozen=True)
class Result:
    """What the judge made of a case. ``why``: what was found, or what is wrong about it."""

    name: str
    area: str
    what: str
    expected: str
    outcome: str
    why: str

    @property
    def good(self) -> bool:
        return self.outcome in (CAUGHT, RIGHT)


class Checker:
    """Simulates, reads and judges cases. ``keep``: where run folders are left, by name."""

    def __init__(self, keep: Path | None = None) -> None:
        self._keep = keep
        self._simulators: list[tuple[Plan, Simulator]] = []

    def check(self, case: Case) -> Result:
        """What the judge makes of the case. Raises PlanInvalid if it cannot be simulated."""
        simulator = self._simulator(case.plan)
        with tempfile.TemporaryDirectory(prefix="harness-selftest-") as folder:
            place = Path(folder) if self._keep is None else self._keep / case.name
            simulator.write(case.world, place)
            return compare(case, judge_folder(place))

    def _simulator(self, plan: Plan) -> Simulator:
        """One for each plan; those used last are kept, with the requests they have drawn."""
        known = next((s for p, s in self._simulators if p is plan), None) or Simulator(plan)
        others = [(p, s) for p, s in self._simulators if p is not plan]
        self._simulators = [(plan, known), *others][:_KEPT]
        return known


def judge_folder(folder: Path) -> Verdict:
    """The verdict on a run folder, as ``harness judge`` gives it."""
    plan = Plan.from_json(json.loads((folder / "plan.json").read_bytes()))
    return judge(plan, read_run(folder))


def compare(case: Case, verdict: Verdict) -> Result:
    """What the verdict is worth, given what the case says must be found."""

    def result(outcome: str, why: str) -> Result:
        return Result(case.name, case.area, case.what, case.expected, outcome, why)

    if case.healthy:
        if not any(case.says in finding.because for finding in verdict.findings):
            return result(FALSE_ALARM, f"nothing says {case.says!r}; {verdict.summary}")
        if verdict.outcome is Outcome.PASS and verdict.exit_status is ExitStatus.PASS:
            return result(RIGHT, verdict.summary)
        return result(FALSE_ALARM, verdict.summary)
    if verdict.exit_status is not case.exit_status:
        return result(MISSED, f"exit status {int(verdict.exit_status)}: {verdict.summary}")
    if not case.finds and case.says in verdict.summary:
        return result(CAUGHT, verdict.summary)
    found = [finding for finding in verdict.findings if _is(case, finding)]
    if not found:
        return result(MISSED, f"no such finding; {verdict.summary}")
    return result(CAUGHT, found[0].because)


def _is(case: Case, finding: Finding) -> bool:
    wanted = {
        ExitStatus.OBJECTIVE_FAILED: (Outcome.FAIL,),
        ExitStatus.UNKNOWN: (Outcome.UNKNOWN,),
    }.get(case.exit_status, (Outcome.FAIL, Outcome.UNKNOWN))
    return (
        finding.objective.startswith(case.finds)
        and case.phase in ("", finding.phase)
        and case.says in finding.because
        and finding.outcome in wanted
    )


def table(results: Sequence[Result], width: int = 100) -> Iterator[str]:
    """Lines of a table: each case, then the sums by area and in all."""
    longest = max((len(result.name) for result in results), default=4)
    for result in results:
        line = f"{result.outcome:11}  {result.name:{longest}}  {result.expected:24}  {result.why}"
        yield line if not result.good else line[:width]
    yield ""
    areas = dict.fromkeys(result.area for result in results)
    yield f"{'':12}{'defects':>8} {CAUGHT:>8} {'missed':>8} {'healthy':>9} {'false alarms':>13}"
    for area in areas:
        yield _sums(area, [result for result in results if result.area == area])
    yield _sums("all", results)


def _sums(name: str, results: Sequence[Result]) -> str:
    def count(of: Callable[[Result], bool]) -> int:
        return sum(1 for result in results if of(result))

    caught = count(lambda r: r.outcome == CAUGHT)
    missed = count(lambda r: r.outcome == MISSED)
    healthy = count(lambda r: r.outcome in (RIGHT, FALSE_ALARM))
    alarms = count(lambda r: r.outcome == FALSE_ALARM)
    return f"{name:12}{caught + missed:>8} {caught:>8} {missed:>8} {healthy:>9} {alarms:>13}"
