"""From a plan and its evidence to a verdict. Pure: the same in, the same out.

Whether there is enough evidence comes first, then whether each fault landed and was
undone, then what the plan demands. A check that raises is a finding of its own,
unknown, with the reason: it neither hides nor ends the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.errors import ExitStatus
from harness.evidence.model import Evidence, Gap
from harness.plan.model import (
    Agreement,
    Alert,
    Availability,
    BlueGreen,
    BurnRate,
    Canary,
    Degradation,
    Durability,
    ErrorBudget,
    ErrorRate,
    Failback,
    Failover,
    Latency,
    Mtbf,
    Mttr,
    NoOtherAlert,
    Objective,
    Phase,
    Plan,
    Recovery,
    Regression,
    RollingUpdate,
    Scaling,
    Throughput,
)
from harness.verdict.agreement import View, judge_agreement, view
from harness.verdict.alerting import judge_fires, judge_no_other, judge_resolves
from harness.verdict.budget import judge_burn_rate, judge_error_budget
from harness.verdict.case import Case
from harness.verdict.degradation import judge_degrades, judge_only_declared, judge_whole_again
from harness.verdict.delivery import (
    delivery_steps,
    judge_blue_green,
    judge_canary,
    judge_rolling_update,
    trials,
)
from harness.verdict.durability import judge_durability
from harness.verdict.failover import (
    Way,
    expected_s,
    failback,
    failover,
    judge_failback,
    judge_failover,
)
from harness.verdict.faults import judge_system, judge_undo, open_undos
from harness.verdict.landing import Landing, judge_landing, landing
from harness.verdict.model import Finding, Outcome, Step, Verdict, worst
from harness.verdict.recovery import judge_recovery
from harness.verdict.regression import judge_regression
from harness.verdict.reliability import judge_mtbf, judge_mttr
from harness.verdict.saturation import Machine, excused, excused_in_part
from harness.verdict.scaling import judge_scaling
from harness.verdict.sufficiency import all_gaps, judge_evidence, judge_generator, judge_rate
from harness.verdict.traffic import (
    judge_availability,
    judge_content,
    judge_error_rate,
    judge_latency,
    judge_throughput,
)

_PER_PHASE: dict[type[Any], Callable[..., Finding]] = {
    Availability: judge_availability,
    ErrorRate: judge_error_rate,
    Latency: judge_latency,
    Throughput: judge_throughput,
    Agreement: judge_agreement,
    BurnRate: judge_burn_rate,
    Regression: judge_regression,
}
_PER_DELIVERY: dict[type[Any], Callable[..., Iterable[Finding]]] = {
    Canary: judge_canary,
    BlueGreen: judge_blue_green,
    RollingUpdate: judge_rolling_update,
}


#: Findings that name a cause before those that show its effects; others lie between.
_TELLING = (
    "undone",
    "evidence complete",
    "generator healthy",
    "planned rate sent",
    "fault landed",
    "durability",
    "canary",
    "scaling",
    "scaling back",
    "content",
    "degradation",
    "whole again",
    "degraded otherwise",
    "pods replaced",
    "routing",
    "database moved",
    "zone back",
    "failover",
    "failback",
)


def _how_telling(finding: Finding) -> int:
    name = finding.objective.partition(":")[0]
    if name in _TELLING:
        return _TELLING.index(name)
    return len(_TELLING) + (name == "experiment")


def judge(plan: Plan, evidence: Evidence) -> Verdict:
    """The verdict on one run. Never raises for anything the evidence holds."""
    return _Judge(Case(plan, evidence)).verdict()


class _Judge:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.machine = Machine(case)
        self.gaps = self._all_gaps()
        self.landings = {f.name: self._landing(f.name) for f in case.plan.faults}
        self.over: dict[str, Way | None] = {}
        self.back: dict[str, Way | None] = {}

    def _all_gaps(self) -> tuple[Gap, ...]:
        try:
            return tuple(all_gaps(self.case))
        except Exception as error:  # noqa: BLE001 - not knowing what is missing is a gap
            gap = Gap("judge", "check", None, f"gaps cannot be told: {_said(error)}")
            return (*self.case.evidence.gaps, gap)

    def _landing(self, fault: str) -> Landing:
        try:
            return landing(self.case, fault)
        except Exception as error:  # noqa: BLE001 - a broken check is unknown, never a pass
            return Landing(fault, 0.0, 0.0, (), f"cannot be told: {_said(error)}")

    # ---- findings ----------------------------------------------------------------------

    def verdict(self) -> Verdict:
        case = self.case
        findings = tuple(self._excused(finding) for finding in self._findings())
        outcome = worst(finding.outcome for finding in findings)
        status, stopped = self._status(outcome)
        if status in (ExitStatus.STOPPED, ExitStatus.UNDO_INCOMPLETE) and outcome is Outcome.PASS:
            outcome = Outcome.UNKNOWN
        return Verdict(
            outcome=outcome,
            exit_status=status,
            summary=self._summary(outcome, status, findings, stopped),
            run=case.evidence.run,
            target=case.target,
            findings=findings,
            timeline=tuple(_step(step) for step in self._timeline()),
            phases=tuple(self._figures()),
            gaps=tuple(_gap(gap) for gap in self.gaps),
            plan={"name": case.plan.name, "file": case.plan.file, "sha256": case.plan.sha256},
        )

    def _findings(self) -> Iterator[Finding]:
        case = self.case
        yield from self._safe("evidence complete", "all", judge_evidence, self.gaps)
        yield from self._safe("generator healthy", "all", judge_generator, case)
        yield from self._safe("content", "all", self._content)
        for phase in case.plan.phases:
            yield from self._safe("planned rate sent", phase.name, judge_rate, case, phase.name)
            if phase.kind == "fault" and phase.fault:
                yield from self._fault(phase.fault)
            for objective in case.plan.objectives:
                yield from self._objective(objective, phase)
        for objective in case.plan.objectives:
            if isinstance(objective, Durability):
                named = tuple(self.landings[name] for name in objective.faults)
                yield from self._safe(
                    objective.text, "all", judge_durability, case, objective, named
                )
            elif isinstance(objective, Mttr):
                yield from self._safe(objective.text, "all", judge_mttr, case, objective)
            elif isinstance(objective, Mtbf):
                yield from self._safe(objective.text, "all", judge_mtbf, case, objective)
            elif isinstance(objective, Degradation):
                name = f"degraded otherwise: {', '.join(objective.operations)}"
                yield from self._safe(name, "all", judge_only_declared, case, objective)
            elif isinstance(objective, Scaling):
                yield from self._safe(objective.text, "all", judge_scaling, case, objective)
            elif isinstance(objective, ErrorBudget):
                about = objective.phases[0] if len(objective.phases) == 1 else "all"
                yield from self._safe(
                    objective.text, about, self._counted, judge_error_budget, objective, about
                )

    def _content(self) -> Finding:
        return judge_content(self.case, list(trials(self.case, self.landings)))

    def _fault(self, name: str) -> Iterator[Finding]:
        case, landed, phase = self.case, self.landings[name], f"fault:{name}"
        yield from self._safe("fault landed", phase, judge_landing, case, landed)
        yield from self._safe("undone", phase, judge_undo, case, name)
        yield from self._safe("system", phase, judge_system, case, landed)

    def _objective(self, objective: Objective, phase: Phase) -> Iterator[Finding]:
        """What ``objective`` says of ``phase``: nothing, or one finding."""
        if isinstance(objective, (Recovery, Failover, Failback)):
            during = "fault" if isinstance(objective, Failover) else "recovery"
            if phase.kind == during and phase.fault in objective.faults:
                yield from self._safe(objective.text, phase.name, self._clocked, objective, phase)
            return
        delivery = _PER_DELIVERY.get(type(objective))
        if delivery is not None:
            if phase.kind == "fault" and phase.fault in objective.faults:  # type: ignore[union-attr]
                landed = self.landings[phase.fault or ""]
                yield from self._safe(
                    objective.text, phase.name, delivery, self.case, objective, landed
                )
            return
        if isinstance(objective, Alert):
            yield from self._alert(objective, phase)
            return
        if isinstance(objective, Degradation):
            yield from self._degradation(objective, phase)
            return
        if isinstance(objective, NoOtherAlert):
            if phase.name in objective.phases:
                yield from self._safe(
                    objective.text, phase.name, judge_no_other, self.case, objective, phase.name
                )
            return
        check = _PER_PHASE.get(type(objective))
        if check is not None and phase.name in objective.phases:  # type: ignore[union-attr]
            yield from self._safe(
                objective.text, phase.name, self._counted, check, objective, phase.name
            )

    def _alert(self, objective: Alert, phase: Phase) -> Iterator[Finding]:
        """That it fires is judged of the fault, that it resolves of the recovery."""
        if phase.fault not in objective.faults:
            return
        judges = {"fault": judge_fires}
        if objective.resolves_within_s is not None:
            judges["recovery"] = judge_resolves
        if phase.kind in judges:
            landed = self.landings[phase.fault or ""]
            yield from self._safe(
                objective.text, phase.name, judges[phase.kind], self.case, objective, landed
            )

    def _degradation(self, objective: Degradation, phase: Phase) -> Iterator[Finding]:
        """That it gives less is judged of the fault, that it is whole again of the recovery."""
        checks = {"fault": judge_degrades, "recovery": judge_whole_again}
        if phase.fault in objective.faults and phase.kind in checks:
            landed, text = self.landings[phase.fault or ""], objective.text
            if phase.kind == "recovery":
                text = f"whole again: {', '.join(objective.operations)}"
            check = checks[phase.kind]
            yield from self._safe(text, phase.name, self._counted, check, objective, landed)

    def _counted(
        self, check: Callable[..., Finding], objective: Objective, about: str | Landing
    ) -> Finding:
        """What ``check`` finds in the counts of the seconds in which the machine had room."""
        finding = check(self.case, objective, about)
        if isinstance(objective, Agreement):
            return finding
        return excused_in_part(
            self.case, self.machine, finding, lambda case: check(case, objective, about)
        )

    def _clocked(self, objective: Recovery | Failover | Failback, phase: Phase) -> Finding:
        """An objective with a clock that starts at a fault's landing or restoration."""
        landed = self.landings[phase.fault or ""]
        if isinstance(objective, Recovery):
            return self._counted(judge_recovery, objective, landed)
        if isinstance(objective, Failover):
            return judge_failover(objective, landed, self._way_over(landed))
        return judge_failback(objective, landed, self._way_back(landed))

    def _way_over(self, landed: Landing) -> Way | None:
        if landed.fault not in self.over:
            self.over[landed.fault] = failover(self.case, landed)
        return self.over[landed.fault]

    def _way_back(self, landed: Landing) -> Way | None:
        if landed.fault not in self.back:
            self.back[landed.fault] = failback(self.case, landed)
        return self.back[landed.fault]

    def _safe(
        self,
        objective: str,
        phase: str,
        check: Callable[..., Finding | Iterable[Finding]],
        *args: Any,
    ) -> Iterator[Finding]:
        """What ``check(*args)`` finds, or that it is unknown because the check raised."""
        try:
            found = check(*args)
            yield from [found] if isinstance(found, Finding) else list(found)
        except Exception as error:  # noqa: BLE001 - a broken check is unknown, never a pass
            because = f"the check itself failed: {_said(error)}"
            yield Finding(objective, phase, Outcome.UNKNOWN, None, "", because)

    def _excused(self, finding: Finding) -> Finding:
        """A failure that may be the machine's own is unknown."""
        try:
            return excused(self.case, self.machine, finding)
        except Exception as error:  # noqa: BLE001 - what cannot be told excuses nobody
            because = f"{finding.because}; (the machine's share cannot be told: {_said(error)})"
            return dataclasses.replace(finding, because=because)

    # ---- the whole ---------------------------------------------------------------------

    def _status(self, outcome: Outcome) -> tuple[ExitStatus, str]:
        """Exit status, and why the run was stopped (empty if it was not)."""
        ends = self.case.evidence.of_kind("run.end")
        stopped = ends[-1].text("stopped") if ends else ""
        if self._undo_incomplete():
            return ExitStatus.UNDO_INCOMPLETE, stopped
        if stopped:
            return ExitStatus.STOPPED, stopped
        return {
            Outcome.PASS: ExitStatus.PASS,
            Outcome.FAIL: ExitStatus.OBJECTIVE_FAILED,
            Outcome.UNKNOWN: ExitStatus.UNKNOWN,
        }[outcome], ""

    def _undo_incomplete(self) -> bool:
        try:
            return bool(open_undos(self.case))
        except Exception:  # noqa: BLE001 - an undo that cannot be verified is not verified
            return True

    def _summary(
        self, outcome: Outcome, status: ExitStatus, findings: tuple[Finding, ...], stopped: str
    ) -> str:
        if status is ExitStatus.UNDO_INCOMPLETE:
            return self._summary_of_open_undos(stopped)
        names = ", ".join(fault.name for fault in self.case.plan.faults)
        kinds = {self.case.scope(fault.name).kind for fault in self.case.plan.faults}
        verb = "delivering" if kinds == {"delivery"} else "losing"
        done = f"after {verb} {names}" if names else "under load"
        if stopped:
            return f"the run was stopped ({stopped}) before its end; faults were undone"
        if outcome is Outcome.PASS:
            return f"every objective held {done}, on sufficient evidence"
        # The most telling first: an error rate says that, a failover says why.
        bad = sorted((f for f in findings if f.outcome is outcome), key=_how_telling)
        shown = f"{bad[0].objective} ({bad[0].phase}): {bad[0].because}"
        more = f"; and {len(bad) - 1} more" if len(bad) > 1 else ""
        how = "failed" if outcome is Outcome.FAIL else "cannot be told"
        return f"{len(bad)} of {len(findings)} findings {how}: {shown}{more}"

    def _summary_of_open_undos(self, stopped: str) -> str:
        before = f"the run was stopped ({stopped}); " if stopped else ""
        try:
            actions = ", ".join(f"{a.action} of {a.fault}" for a in open_undos(self.case))
        except Exception as error:  # noqa: BLE001 - the summary must be written all the same
            actions = f"cannot be told which: {_said(error)}"
        return f"{before}not verified as undone: {actions}; run `harness recover`"

    def _timeline(self) -> Iterator[Step]:
        for fault in self.case.plan.faults:
            try:
                yield from list(self._steps(fault.name))
            except Exception as error:  # noqa: BLE001 - its finding, if any, says so too
                because = f"cannot be told: {_said(error)}"
                yield Step(fault.name, "fault", "unknown", "steps", None, because=because)

    def _steps(self, fault: str) -> Iterator[Step]:
        landed = self.landings[fault]
        over = back = None
        if self.case.scope(fault).kind == "region":
            over, back = self._way_over(landed), self._way_back(landed)
        if over is None and landed.landed:
            what = f"{fault}: fault landed"
            uncertainty_s = landed.high - landed.low
            yield Step(fault, "fault", "landed", what, landed.high, uncertainty_s, 0.0)
        yield from over.steps if over else ()
        if self.case.scope(fault).kind == "delivery":
            yield from delivery_steps(self.case, landed)
        if back is None:
            yield from self._restored(fault, landed)
        yield from back.steps if back else ()

    def _restored(self, fault: str, landed: Landing) -> Iterator[Step]:
        done = [a.undo_done_t for a in self.case.actions(fault) if a.undo_done_t is not None]
        if done and landed.landed:
            yield Step(
                fault,
                "fault",
                "restored",
                f"{fault}: undone",
                max(done),
                0.0,
                max(0.0, max(done) - landed.low),
                expected_s(self.case.plan.expected, fault, "restored"),
            )

    def _view(self, phase: str) -> View:
        try:
            return view(self.case, phase)
        except Exception as error:  # noqa: BLE001 - a figure less, not a verdict less
            return View(why_not=f"cannot be told: {_said(error)}")

    def _figures(self) -> Iterator[Mapping[str, Any]]:
        for phase in self.case.plan.phases:
            span, counts = self.case.span(phase.name), self.case.counts(phase.name)
            seconds = len(self.case.seconds(phase.name))
            seen = self._view(phase.name)
            quantiles = {}
            for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                found = counts.quantile_s(q)
                quantiles[name] = None if found is None else [found.low, found.high]
            yield {
                "phase": phase.name,
                "kind": phase.kind,
                "fault": phase.fault,
                "start_t": span.start_t if span else None,
                "end_t": span.end_t if span else None,
                "client": {
                    "seconds": seconds,
                    "planned": counts.planned,
                    "sent": counts.sent,
                    "ok": counts.ok,
                    "degraded": counts.degraded,
                    "failed": counts.failed,
                    "unsure": counts.unsure,
                    "not_sent": counts.not_sent,
                    "unaccounted": counts.unaccounted,
                    "availability": _pair(counts.availability()),
                    "error_rate": _pair(counts.error_rate()),
                    "below_200ms": _pair(counts.within(0.2)),
                    "rate": counts.ok / seconds if seconds else None,
                    "latency_s": quantiles,
                    "regions": counts.by(lambda c: c.region, "ok"),
                    "errors": counts.errors(),
                },
                "prometheus": {
                    "why_not": seen.why_not,
                    "requests": None if seen.why_not else seen.requests,
                    "error_rate": seen.error_rate,
                    "below_200ms": _pair(seen.below_200ms),
                },
            }


def _pair(share: Any) -> list[float] | None:
    return None if share is None else [share.low, share.high]


def _step(step: Step) -> Mapping[str, Any]:
    return {name: getattr(step, name) for name in step.__dataclass_fields__}


def _gap(gap: Gap) -> Mapping[str, Any]:
    return {"source": gap.source, "what": gap.what, "phase": gap.phase, "detail": gap.detail}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
