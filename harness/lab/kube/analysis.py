"""Analysis of a new version: measurements against Prometheus, and what they amount to.

An AnalysisRun is made from AnalysisTemplates; its metrics are measured at their interval, each
measurement is good, bad, inconclusive or an error, and too many of one kind end the run.
Fields, limits and messages are those of ``argoproj.io/v1alpha1``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.lab.kube import kinds
from harness.lab.kube.conditions import ConditionError, holds
from harness.lab.kube.controller import Key
from harness.lab.kube.objects import Obj, at, is_terminating, name_of, namespace_of, parse_timestamp
from harness.lab.kube.registry import Registry
from harness.lab.kube.rolloutspec import duration_s
from harness.lab.kube.store import Change

SUCCESSFUL, FAILED, ERROR = "Successful", "Failed", "Error"
INCONCLUSIVE, RUNNING = "Inconclusive", "Running"
#: Worst first: what ends a run, and how.
_ENDS = (ERROR, FAILED, INCONCLUSIVE)
DONE = frozenset({SUCCESSFUL, *_ENDS})
_ERROR_RETRY_S = 10.0
_CONSECUTIVE_ERRORS = 4
#: Measurements kept in the status of each metric.
_KEPT = 10
_COUNTS = {
    SUCCESSFUL: "successful",
    FAILED: "failed",
    INCONCLUSIVE: "inconclusive",
    ERROR: "error",
}

#: What a query gave: the values of its series, or why it gave none.
Answer = Sequence[float] | str
#: Asks a metric's provider; calls back once with the answer.
Ask = Callable[[Obj, Callable[[Answer], None]], None]


def run_from(
    templates: Iterable[Obj], args: Mapping[str, str], *, name: str, labels: Mapping[str, str]
) -> Obj:
    """An AnalysisRun of ``templates`` with the values of ``args`` put in.

    Raises ValueError for an argument that nobody gives.
    """
    values = dict(args)
    metrics: list[Obj] = []
    for template in templates:
        for arg in at(template, "spec.args", ()):
            values.setdefault(arg["name"], arg.get("value", ""))
            if not values[arg["name"]]:
                raise ValueError(f"args.{arg['name']} was not resolved")
        metrics += at(template, "spec.metrics", ())
    return {
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "args": [{"name": key, "value": value} for key, value in sorted(values.items())],
            "metrics": [_resolved(metric, values) for metric in metrics],
        },
    }


def _resolved(value: Any, args: Mapping[str, str]) -> Any:
    """``value`` with every ``{{args.NAME}}`` in its texts replaced."""
    if isinstance(value, Mapping):
        return {key: _resolved(item, args) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, args) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(
        r"\{\{\s*args\.([\w-]+)\s*\}\}", lambda m: args.get(m.group(1), m.group(0)), value
    )


# ---- one measurement -----------------------------------------------------------------------------


def measured(metric: Obj, answer: Answer) -> tuple[str, str, str]:
    """``(phase, value, message)`` of one answer to the metric's query."""
    if isinstance(answer, str):
        return ERROR, "", answer
    value = f"[{','.join(f'{v:g}' for v in answer)}]"
    good, bad = metric.get("successCondition", ""), metric.get("failureCondition", "")
    try:
        failed = bool(bad) and holds(bad, list(answer))
        succeeded = holds(good, list(answer)) if good else not failed
    except ConditionError as error:
        return ERROR, value, str(error)
    if failed:
        return FAILED, value, ""
    if succeeded:
        return SUCCESSFUL, value, ""
    return INCONCLUSIVE if bad else FAILED, value, ""


def with_measurement(
    result: Obj, phase: str, value: str, message: str, started: str, finished: str
) -> Obj:
    """A metric's result with one more measurement."""
    taken = {"phase": phase, "startedAt": started, "finishedAt": finished}
    taken |= {"value": value} if value else {}
    taken |= {"message": message} if message else {}
    counter = _COUNTS[phase]
    new = {**result, counter: result.get(counter, 0) + 1}
    if phase == ERROR:
        new["consecutiveError"] = result.get("consecutiveError", 0) + 1
    else:
        new["consecutiveError"] = 0
        new["count"] = result.get("count", 0) + 1
    new["measurements"] = [*result.get("measurements", ()), taken][-_KEPT:]
    return new


# ---- what they amount to -------------------------------------------------------------------------


def assessed(metric: Obj, result: Obj) -> tuple[str, str]:
    """``(phase, message)`` of a metric by its counts and limits."""
    limits = (
        (FAILED, "failed", "failureLimit", 0),
        (INCONCLUSIVE, "inconclusive", "inconclusiveLimit", 0),
        (ERROR, "consecutiveError", "consecutiveErrorLimit", _CONSECUTIVE_ERRORS),
    )
    for phase, counter, key, default in limits:
        n, limit = result.get(counter, 0), int(metric.get(key, default))
        if n > limit:
            what = "consecutiveErrors" if counter == "consecutiveError" else counter
            return phase, f"{what} ({n}) > {key} ({limit})"
    wanted = metric.get("count") or (0 if metric.get("interval") else 1)
    if wanted and result.get("count", 0) >= int(wanted):
        return SUCCESSFUL, ""
    return RUNNING, ""


def concluded(run: Obj, *, terminate: bool = False) -> tuple[str, str]:
    """``(phase, message)`` of a whole run by those of its metrics."""
    found = {}
    for metric in at(run, "spec.metrics", ()):
        phase, message = assessed(metric, result_of(run, metric["name"]))
        found.setdefault(phase, (metric["name"], message))
    for phase in _ENDS:
        if phase in found:
            name, message = found[phase]
            return phase, f'Metric "{name}" assessed {phase} due to {message}'
    if terminate:
        return SUCCESSFUL, "Run Terminated"
    return (RUNNING, "") if RUNNING in found else (SUCCESSFUL, "")


def result_of(run: Obj, metric: str) -> Obj:
    """What is known of one metric so far."""
    results: Iterable[Obj] = at(run, "status.metricResults", ())
    return next((r for r in results if r["name"] == metric), {"name": metric})


class AnalysisController:
    """Takes the measurements of AnalysisRuns as they fall due.

    ``blind`` is a seeded defect: every measurement is called good, whatever it says.
    """

    def __init__(self, registry: Registry, ask: Ask) -> None:
        self._registry = registry
        self._ask = ask
        self._asking: set[tuple[Key, str]] = set()
        self.blind = False

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.ANALYSIS_RUN.storage and change.type != "DELETED":
            yield namespace_of(change.obj), name_of(change.obj)

    def reconcile(self, key: Key) -> float | None:
        run = self._registry.store.get(kinds.ANALYSIS_RUN.storage, *key)
        if run is None or is_terminating(run) or at(run, "status.phase") in DONE:
            return None
        if not at(run, "status.startedAt"):
            begun = {"phase": RUNNING, "startedAt": self._registry.now()}
            self._update(key, lambda obj: obj.update(status=begun))
            return None
        phase, message = concluded(run, terminate=bool(at(run, "spec.terminate")))
        if phase in DONE:
            self._update(key, lambda obj: obj["status"].update(phase=phase, message=message))
            return None
        waits = [self._wait_s(key, run, metric) for metric in at(run, "spec.metrics", ())]
        for metric, wait_s in zip(at(run, "spec.metrics", ()), waits, strict=True):
            if wait_s is not None and wait_s <= 0:
                self._measure(key, metric)
        return min((w for w in waits if w is not None and w > 0), default=None)

    def _update(self, key: Key, change: Callable[[Obj], object]) -> None:
        def apply(obj: Obj) -> None:
            change(obj)

        self._registry.mutate(kinds.ANALYSIS_RUN, *key, apply)

    def _wait_s(self, key: Key, run: Obj, metric: Obj) -> float | None:
        """Seconds until the metric's next measurement; None while there is none to come."""
        result = result_of(run, metric["name"])
        if (key, metric["name"]) in self._asking or assessed(metric, result)[0] != RUNNING:
            return None
        now_s = self._registry.clock.wall_s()
        taken = result.get("measurements") or ()
        if not taken:
            delay_s = duration_s(metric.get("initialDelay", 0))
            return parse_timestamp(run["status"]["startedAt"]) + delay_s - now_s
        last = taken[-1]
        every_s = duration_s(metric.get("interval", 0)) or _ERROR_RETRY_S
        every_s = _ERROR_RETRY_S if last["phase"] == ERROR else every_s
        return parse_timestamp(last["finishedAt"]) + every_s - now_s

    def _measure(self, key: Key, metric: Obj) -> None:
        name, started = metric["name"], self._registry.now()
        self._asking.add((key, name))

        def answered(answer: Answer) -> None:
            self._asking.discard((key, name))
            phase, value, message = measured(metric, answer)
            if self.blind:
                phase, message = SUCCESSFUL, ""
            finished = self._registry.now()

            def change(obj: Obj) -> None:
                before = result_of(obj, name)
                after = with_measurement(before, phase, value, message, started, finished)
                after["phase"], after["message"] = assessed(metric, after)
                others = [r for r in at(obj, "status.metricResults", ()) if r["name"] != name]
                obj["status"]["metricResults"] = [*others, after]

            self._update(key, change)

        self._ask(metric, answered)
