"""``db_lag:<instance>`` → seconds a replica is behind, as CloudWatch's ReplicaLag says.

Where CloudWatch has never had a value (no replica, or not published) nothing is
written; once it had one, its absence is ``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from harness.clock import Clock
from harness.target.model import Region, Target
from harness.watch.aws_observer import AwsObserver
from harness.watch.cloudwatch import latest


class DatabaseLag(AwsObserver):
    """The target's replicas in one region."""

    def __init__(self, target: Target, region: Region, period_s: float, clock: Clock) -> None:
        super().__init__(target, region, period_s)
        self.clock = clock
        self.name = f"db_lag-{region.name}"
        self._ids = [d.instance for d in target.databases if d.region == region.name]

    def poll(self) -> Mapping[str, float]:
        asked = {
            i: ("AWS/RDS", "ReplicaLag", [{"Name": "DBInstanceIdentifier", "Value": i}], "Maximum")
            for i in self._ids
        }
        now = datetime.fromtimestamp(self.clock.wall_s(), UTC)
        found = latest(self.client("cloudwatch"), now, asked)
        return {f"db_lag:{i}": round(lag_s, 1) for i, lag_s in found.items()}

    def renew(self) -> DatabaseLag:
        return DatabaseLag(self.target, self.region, self.period_s, self.clock)
