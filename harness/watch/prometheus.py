"""What Prometheus tells during the run: alerts, and how far its clock is from ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.clock import Clock
from harness.target.connect import prometheus
from harness.target.model import Target
from harness.watch.observer import Observer
from harness.watch.recorder import Unseen

if TYPE_CHECKING:
    from harness.target.prometheus import PrometheusReader

#: Offsets are told apart from this much on; less is the jitter of one question.
_OFFSET_STEP_S = 0.1
#: A question that took longer than twice this cannot tell an offset.
_UNCERTAINTY_MAX_S = 0.25


class PrometheusObserver(Observer):
    """Base: a reader of its own, made at first use."""

    timeout_s = 3.0

    def __init__(self, target: Target, period_s: float, clock: Clock) -> None:
        self.target = target
        self.period_s = period_s
        self.clock = clock
        self._reader: PrometheusReader | None = None

    @property
    def reader(self) -> PrometheusReader:
        if self._reader is None:
            self._reader = prometheus(self.target, timeout_s=self.timeout_s - 1.0, clock=self.clock)
        return self._reader

    def renew(self) -> PrometheusObserver:
        return type(self)(self.target, self.period_s, self.clock)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class Alerts(PrometheusObserver):
    """``alert:<name>/<labels>`` → ``firing``, ``pending``, or ``inactive`` once it was either."""

    name = "alerts"

    def __init__(self, target: Target, period_s: float, clock: Clock) -> None:
        super().__init__(target, period_s, clock)
        self._known: set[str] = set()

    def poll(self) -> Mapping[str, str]:
        now = {alert_subject(a["labels"]): str(a["state"]) for a in self.reader.alerts()}
        self._known |= now.keys()
        return {subject: now.get(subject, "inactive") for subject in sorted(self._known)}

    def renew(self) -> Alerts:
        fresh = Alerts(self.target, self.period_s, self.clock)
        fresh._known = set(self._known)
        return fresh


class PrometheusClock(PrometheusObserver):
    """``clock:prometheus`` → seconds its clock is ahead of ours, to 0.1 s."""

    name = "clock"
    subjects = ("clock:prometheus",)

    def poll(self) -> Mapping[str, Any]:
        offset_s, uncertainty_s = self.reader.clock_offset()
        if uncertainty_s > _UNCERTAINTY_MAX_S:
            slow = f"the answer took {2 * uncertainty_s:.2f} s, too long to compare clocks"
            return {"clock:prometheus": Unseen(slow)}
        return {"clock:prometheus": round(round(offset_s / _OFFSET_STEP_S) * _OFFSET_STEP_S, 3)}


def alert_subject(labels: Mapping[str, Any]) -> str:
    """``alert:<name>/<label=value,…>``, labels sorted."""
    rest = ",".join(f"{k}={v}" for k, v in sorted(labels.items()) if k != "alertname")
    return f"alert:{labels.get('alertname', '?')}/{rest}"
