"""Requests and truth that moto has no place for. Shared by the server's threads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any


class Requests:
    """Counts calls that ask for something to happen once (promote, reboot, failover).

    A counter, not a flag: the supervisor compares it with the count it has acted on, so
    no request is lost or acted on twice.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def record(self, kind: str, subject: str) -> None:
        with self._lock:
            self._counts[kind, subject] += 1

    def count(self, kind: str, subject: str) -> int:
        return self._counts[kind, subject]


class Truth:
    """What the lab's processes are really doing, as last reported by the supervisor.

    A request (stop, promote, reboot) shows as pending (``stopping``, ``modifying``, …)
    until a report arrives that was made after the supervisor had seen it.
    """

    def __init__(self) -> None:
        self._health: Mapping[str, Mapping[str, Any]] = {}
        self._targets: Mapping[str, Any] = {}
        self._databases: Mapping[str, Mapping[str, Any]] = {}
        self._pending: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()

    def update(self, report: Mapping[str, Any]) -> None:
        """Replace the given parts; a part that is absent stays as it was."""
        with self._lock:
            self._health = report.get("health", self._health)
            self._targets = report.get("targets", self._targets)
            self._databases = report.get("databases", self._databases)
            applied = report.get("applied_version", 0)
            for subject, (_, version) in list(self._pending.items()):
                if applied >= version and subject in self._databases:
                    del self._pending[subject]

    def expect(self, subject: str, status: str, version: int) -> None:
        """Show ``status`` for a database until state ``version`` has been applied."""
        with self._lock:
            self._pending[subject] = (status, version)

    def health(self, check_id: str) -> Mapping[str, Any] | None:
        return self._health.get(check_id)

    def healthy(self) -> dict[str, bool]:
        """Health check id → whether Route 53 holds it healthy."""
        return {check: bool(entry["healthy"]) for check, entry in self._health.items()}

    def targets(self) -> dict[str, dict[str, Any]]:
        """``ip:port`` → ``{"healthy": bool, "reason": str}``."""
        return {
            name: {"reason": "", **entry} if isinstance(entry, Mapping) else {"healthy": entry}
            for name, entry in self._targets.items()
        }

    def databases(self) -> Mapping[str, Mapping[str, Any]]:
        return self._databases

    def database(self, instance: str) -> dict[str, Any]:
        """The report on ``instance``, with the pending status if there is one; may be empty."""
        entry = dict(self._databases.get(instance, {}))
        if pending := self._pending.get(instance):
            entry["status"] = pending[0]
        return entry
