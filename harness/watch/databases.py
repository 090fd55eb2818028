"""``db:<instance>`` → role, status, zone and source, as RDS describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.target.model import Region, Target
from harness.target.rds import roles
from harness.watch.aws_observer import AwsObserver

_ABSENT = {"role": None, "status": "absent", "zone": None, "source": None}


class Databases(AwsObserver):
    """The target's databases in one region."""

    def __init__(self, target: Target, region: Region, period_s: float) -> None:
        super().__init__(target, region, period_s)
        self.name = f"databases-{region.name}"
        self._ids = [d.instance for d in target.databases if d.region == region.name]
        self.subjects = tuple(f"db:{i}" for i in self._ids)

    def poll(self) -> Mapping[str, Any]:
        seen = roles(self.client("rds").describe_db_instances()["DBInstances"])
        return {f"db:{i}": seen.get(i, _ABSENT) for i in self._ids}
