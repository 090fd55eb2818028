"""One look at a stop condition: is it breached? Each kind of condition in one function.

A look that cannot tell (no answer, no data, an answer of another form) raises; whoever looks
decides how long that may go on. Nothing here changes the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clock import Clock, SystemClock
from harness.errors import Where
from harness.plan.guards import MAY_RUN, Guard, GuardKind
from harness.plan.model import Plan
from harness.target import connect
from harness.target.aims import queries_of, unknown_metrics
from harness.target.model import Target
from harness.target.preflight import Finding
from harness.target.prometheus import PrometheusGap, Sample
from harness.target.promql import selectors

#: Seconds between two looks. AWS allows few calls a second of an account; probes ask much.
PERIOD_S: dict[GuardKind, float] = {
    "prometheus": 0.25,
    "file": 0.25,
    "alarm": 1.0,
    "parameter": 1.0,
    "safety_lever": 1.0,
    "probe": 1.0,
}
#: What any one look may take.
LOOK_DEADLINE_S = 4.0
#: The safety lever's name: AWS FIS has one per account and region.
_LEVER = "default"


class NothingHeard(Exception):
    """The condition's source gave no answer that says yes or no; says why."""


@dataclass(frozen=True)
class Seen:
    """``observed`` is for people, in a few words."""

    breached: bool
    observed: str


Look = Callable[[], Seen]


def stop_files(run_dir: Path, others: Iterable[Path] = ()) -> tuple[Guard, ...]:
    """The kill switches that every run has: ``STOP`` in its own folder, in that of all runs,
    and ``others``."""
    paths = [run_dir.resolve() / "STOP", run_dir.resolve().parents[1] / "STOP"]
    paths += [path.absolute() for path in others]
    return tuple(Guard("file", str(path), line=0) for path in dict.fromkeys(paths))


def look_of(guard: Guard, plan: Plan, target: Target, clock: Clock | None = None) -> Look:
    """The function that looks at ``guard`` once. Raises whatever its source raises."""
    match guard.kind:
        case "file":
            return lambda: _file(Path(guard.subject))
        case "prometheus":
            return _Prometheus(guard, target, clock or SystemClock()).look
        case "alarm":
            return _Aws("cloudwatch", guard, target, _alarm).look
        case "parameter":
            return _Aws("ssm", guard, target, _parameter).look
        case "safety_lever":
            return _Aws("fis", guard, target, _lever).look
        case "probe":
            return _Probe(guard, plan.fault(guard.fault).experiment).look


# ── the kinds ──────────────────────────────────────────────────────────────────────────


def _file(path: Path) -> Seen:
    try:
        path.lstat()
    except FileNotFoundError:
        # Where the folder is gone, nobody could put the file there.
        if not path.parent.is_dir():
            raise NothingHeard(f"there is no folder {path.parent}") from None
        return Seen(False, "not there")
    return Seen(True, "it is there")


class _Prometheus:
    def __init__(self, guard: Guard, target: Target, clock: Clock) -> None:
        self._guard = guard
        self._reader = connect.prometheus(target, timeout_s=LOOK_DEADLINE_S / 2, clock=clock)
        self._clock = clock

    def look(self) -> Seen:
        samples = self._reader.values(self._guard.subject)
        for sample in samples:
            if self._guard.breached_by(sample.value):
                return Seen(True, f"{_labelled(sample.labels)}{sample.value:g}")
        self._require_evidence(samples)
        return Seen(False, f"{samples[0].value:g}")

    def fresh_values(self) -> tuple[Sample, ...]:
        """Every series, at least one; PrometheusGap where there is none, or they are old."""
        samples = self._reader.values(self._guard.subject)
        self._require_evidence(samples)
        return samples

    def _require_evidence(self, samples: Sequence[Sample]) -> None:
        for selector in selectors(self._guard.subject):
            self._require_fresh(selector)
        if not samples:
            raise PrometheusGap("empty", "no series", self._guard.subject)

    def _require_fresh(self, selector: str) -> None:
        """Something of the selector was scraped lately; where it selects nothing (no error was
        counted yet), something of its metric was."""
        newest_t = self._reader.newest_t(selector)
        if newest_t is None:
            name = selector.partition("{")[0]
            newest_t = self._reader.newest_t(name) if name else None
        if newest_t is None:
            raise PrometheusGap("empty", "nothing is scraped", selector)
        age_s = self._clock.wall_s() - newest_t
        if abs(age_s) > self._reader.age_max_s:
            raise PrometheusGap("stale", f"the newest sample is {age_s:.1f} s old", selector)


class _Aws:
    """A condition of AWS, asked of the target's own account and no other."""

    def __init__(
        self, service: str, guard: Guard, target: Target, ask: Callable[[Any, str], Seen]
    ) -> None:
        self._service, self._guard, self._target, self._ask = service, guard, target, ask
        self._client: Any = None

    def look(self) -> Seen:
        if self._client is None:
            connect.check_account(self._target, "observe")
            region = self._guard.region or self._target.primary
            if self._guard.kind == "safety_lever":
                region = self._guard.subject
            self._client = connect.aws(self._target, self._service, region)
        return self._ask(self._client, self._guard.subject)


def _alarm(client: Any, name: str) -> Seen:
    answer = client.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    found = [*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())]
    if not found:
        raise NothingHeard(f"there is no alarm {name}")
    state = str(found[0]["StateValue"])
    if state not in ("OK", "ALARM"):
        raise NothingHeard(f"its state is {state}")
    return Seen(state == "ALARM", state)


def _parameter(client: Any, name: str) -> Seen:
    value = str(client.get_parameter(Name=name)["Parameter"]["Value"])
    # What it holds may be anything, a secret by mistake too: it is not repeated.
    said = MAY_RUN if value.strip() == MAY_RUN else f"not {MAY_RUN!r}"
    return Seen(value.strip() != MAY_RUN, said)


def _lever(client: Any, _: str) -> Seen:
    status = str(client.get_safety_lever(id=_LEVER)["safetyLever"]["state"]["status"])
    return Seen(status != "disengaged", status)


class _Probe:
    """A probe of an experiment, asked and held to its tolerance as Chaos Toolkit does."""

    def __init__(self, guard: Guard, file: str) -> None:
        from chaoslib.configuration import load_configuration
        from chaoslib.loader import load_experiment
        from chaoslib.secret import load_secrets

        from harness.chaos.control import configure_control

        configure_control(guard.fault)
        experiment = load_experiment(file)
        self._configuration = load_configuration(experiment.get("configuration") or {})
        self._secrets = load_secrets(experiment.get("secrets") or {}, self._configuration)
        hypothesis = experiment.get("steady-state-hypothesis") or {}
        activities = [*hypothesis.get("probes", ()), *experiment["method"]]
        self._probe = next(
            a for a in activities if a.get("name") == guard.subject and "tolerance" in a
        )

    def look(self) -> Seen:
        from chaoslib import substitute
        from chaoslib.activity import run_activity
        from chaoslib.hypothesis import within_tolerance

        tolerance = self._probe["tolerance"]
        if isinstance(tolerance, str):
            tolerance = substitute(tolerance, self._configuration, self._secrets)
        value = run_activity(self._probe, self._configuration, self._secrets)
        held = within_tolerance(
            tolerance, value, configuration=self._configuration, secrets=self._secrets
        )
        return Seen(not held, f"answered {str(value)[:100]}")


def _labelled(labels: Any) -> str:
    shown = ", ".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k != "__name__")
    return f"{{{shown}}} " if shown else ""


# ── before the run ─────────────────────────────────────────────────────────────────────


def checks_of(
    guards: Sequence[Guard], plan: Plan, target: Target
) -> dict[str, Callable[[], Finding]]:
    """Preflight's checks of the conditions: none may be breached, each must be able to tell.

    A PromQL expression may have no value yet (there is no traffic), but its metrics must be
    known, and those that probes of the experiments ask for. Probes are asked from the baseline
    on: they belong to an experiment that is not running.
    """
    checks = {
        _check_name(guard): (lambda g=guard: _finding(g, plan, target))
        for guard in guards
        if guard.kind != "probe"
    }
    for start in plan.starts:
        checks[f"start_when {start.text}"] = lambda g=start: _holds(g, plan, target)
    if any(queries_of(plan)):
        checks["metrics"] = lambda: _metrics(plan, target)
    return checks


def _check_name(guard: Guard) -> str:
    return f"stop_when {guard.text}" if guard.line else f"kill-switch {guard.subject}"


def _finding(guard: Guard, plan: Plan, target: Target) -> Finding:
    place = f" ({Where(plan.file, guard.line)})" if guard.line else ""
    try:
        seen = look_of(guard, plan, target)()
    except PrometheusGap as error:
        if error.reason in ("empty", "nan", "inf"):
            return True, "no value yet", ""
        raise
    hint = f"rm {guard.subject}" if guard.kind == "file" else "wait until it is over"
    return not seen.breached, f"{seen.observed}{place if seen.breached else ''}", hint


def _holds(start: Guard, plan: Plan, target: Target) -> Finding:
    """Whether every series is beyond the bound; without a fresh value it is not known."""
    source = _Prometheus(start, target, SystemClock())
    samples = source.fresh_values()
    short = [s for s in samples if not start.breached_by(s.value)]
    said = ", ".join(f"{_labelled(s.labels)}{s.value:g}" for s in (short or samples)[:3])
    place = f" ({Where(plan.file, start.line)})" if short else ""
    return not short, f"{said}{place}", f"wait until it is {start.bound}"


def _metrics(plan: Plan, target: Target) -> Finding:
    reader = connect.prometheus(target, timeout_s=LOOK_DEADLINE_S)
    try:
        unknown = unknown_metrics(plan, reader.metric_names())
    finally:
        reader.close()
    if unknown:
        said = "; ".join(f"{where}: Prometheus has no metric {name}" for name, where, _ in unknown)
        return False, said, unknown[0][2]
    return True, "each that is asked for is known to Prometheus", ""
