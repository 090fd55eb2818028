"""``dns:<name>`` → where the name points, as regions and database instances where known."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from harness.target.connect import lookup
from harness.target.model import Target
from harness.watch.observer import Observer


class ServiceName(Observer):
    """The name clients use: regions its addresses belong to, unknown addresses as they are."""

    timeout_s = 2.0

    def __init__(self, target: Target, period_s: float) -> None:
        self._target = target
        self._host = urlsplit(target.service_url).hostname or ""
        self._region_of = {a: r.name for r in target.regions for a in r.addresses}
        self.name = "dns"
        self.period_s = period_s
        self.subjects = (f"dns:{self._host}",)

    def poll(self) -> Mapping[str, list[str]]:
        addresses = lookup(self._target, self._host, "A")
        return {self.subjects[0]: sorted({self._region_of.get(a, a) for a in addresses})}

    def renew(self) -> ServiceName:
        return ServiceName(self._target, self.period_s)


class DatabaseWriterName(Observer):
    """The name services write to: the database instance its CNAME names."""

    timeout_s = 2.0

    def __init__(self, target: Target, period_s: float) -> None:
        self._target = target
        self._host = target.db_writer_host or ""
        self._instances = {d.instance for d in target.databases}
        self.name = "dns-db-writer"
        self.period_s = period_s
        self.subjects = (f"dns:{self._host}",)

    def poll(self) -> Mapping[str, list[str]]:
        names = lookup(self._target, self._host, "CNAME")
        return {self.subjects[0]: sorted(self._instance(name) for name in names)}

    def _instance(self, name: str) -> str:
        """RDS endpoints begin with the instance's id."""
        first = name.partition(".")[0]
        return first if first in self._instances else name

    def renew(self) -> DatabaseWriterName:
        return DatabaseWriterName(self._target, self.period_s)
