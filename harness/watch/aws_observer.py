"""Base of the observers that ask the AWS API.

Each asks as few calls as it can, since a call costs some milliseconds here and the
watching must not disturb what is watched: one observer per region, one call per poll.
"""

from __future__ import annotations

from typing import Any

from harness.target.connect import aws
from harness.target.model import Region, Target
from harness.watch.observer import Observer


class AwsObserver(Observer):
    """Clients are made at first use and are this observer's own."""

    timeout_s = 5.0

    def __init__(self, target: Target, region: Region, period_s: float) -> None:
        self.target = target
        self.region = region
        self.period_s = period_s
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """This observer's client of ``service`` in its region."""
        if service not in self._clients:
            self._clients[service] = aws(self.target, service, self.region.name)
        return self._clients[service]

    def renew(self) -> AwsObserver:
        return type(self)(self.target, self.region, self.period_s)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
