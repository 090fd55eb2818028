"""``alertmanager:<name>/<labels>`` → what Alertmanager does with an alert it received.

An alert that fires in Prometheus and never arrives here is one nobody is told of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.target.model import Target
from harness.watch.observer import Observer
from harness.watch.prometheus import alert_subject


class Alertmanager(Observer):
    """Alerts held by Alertmanager: ``active``, ``suppressed``, ``unprocessed`` or ``resolved``."""

    name = "alertmanager"
    timeout_s = 3.0

    def __init__(self, target: Target, period_s: float) -> None:
        self._target = target
        self._url = f"{(target.alertmanager_url or '').rstrip('/')}/api/v2/alerts"
        self._session: Any = None
        self._known: set[str] = set()
        self.period_s = period_s

    def poll(self) -> Mapping[str, str]:
        now = {"alertmanager:" + alert_subject(a["labels"]).removeprefix("alert:"): _state(a)
               for a in self._get()}  # fmt: skip
        self._known |= now.keys()
        return {subject: now.get(subject, "resolved") for subject in sorted(self._known)}

    def _get(self) -> list[dict[str, Any]]:
        if self._session is None:
            import requests

            from harness.target.prometheus import StrictAdapter

            self._session = requests.Session()
            self._session.trust_env = False
            self._session.mount(self._url, StrictAdapter(max_retries=0))
        answer = self._session.get(self._url, timeout=(1.0, 2.0), allow_redirects=False)
        if answer.status_code != 200:
            raise ValueError(f"HTTP {answer.status_code} from Alertmanager")
        alerts: list[dict[str, Any]] = answer.json()
        return alerts

    def renew(self) -> Alertmanager:
        fresh = Alertmanager(self._target, self.period_s)
        fresh._known = set(self._known)
        return fresh

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def _state(alert: Mapping[str, Any]) -> str:
    return str(alert["status"]["state"])
