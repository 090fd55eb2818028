"""``replication:<bucket>`` → ``{"pending", "lag_s"}``: how far a bucket's copies are behind.

S3 publishes this to CloudWatch (with replication metrics enabled). A store that does
not, but is scraped by Prometheus, is read there; which of the two answers is found out
by asking, and stays so once there was an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.clock import Clock
from harness.target.connect import prometheus
from harness.target.model import Region, Target
from harness.watch.aws_observer import AwsObserver
from harness.watch.cloudwatch import latest
from harness.watch.recorder import Unseen

if TYPE_CHECKING:
    from harness.target.prometheus import PrometheusReader, Sample

#: What is kept, and where it is found.
_CLOUDWATCH = {"pending": "OperationsPendingReplication", "lag_s": "ReplicationLatency"}
PROMETHEUS = {"pending": "store_replication_pending", "lag_s": "store_replication_lag_seconds"}
#: Lag is told apart in steps, or every poll of an idle store would be a change.
_LAG_STEP_S = 0.5


class Replication(AwsObserver):
    """Replication out of one region's bucket."""

    timeout_s = 6.0

    def __init__(self, target: Target, region: Region, period_s: float, clock: Clock) -> None:
        super().__init__(target, region, period_s)
        self.clock = clock
        self.name = f"replication-{region.name}"
        self._subject = f"replication:{region.bucket}"
        self.subjects = (self._subject,)
        self._by: str | None = None
        self._dimensions: list[dict[str, str]] | None = None
        self._reader: PrometheusReader | None = None

    def poll(self) -> Mapping[str, Any]:
        value = None
        if self._by != "prometheus":
            value = self._from_cloudwatch()
            self._by = "cloudwatch" if value else self._by
        if value is None and self._by != "cloudwatch":
            value = self._from_prometheus()
            self._by = "prometheus" if value else self._by
        return {self._subject: value or Unseen("no replication figures are published")}

    def _from_cloudwatch(self) -> dict[str, float] | None:
        client = self.client("cloudwatch")
        if not self._dimensions:
            listed = client.list_metrics(
                Namespace="AWS/S3",
                MetricName=_CLOUDWATCH["pending"],
                Dimensions=[{"Name": "SourceBucket", "Value": self.region.bucket}],
            )["Metrics"]
            if not listed:
                return None
            self._dimensions = listed[0]["Dimensions"]
        now = datetime.fromtimestamp(self.clock.wall_s(), UTC)
        asked = {
            key: ("AWS/S3", metric, self._dimensions, "Maximum")
            for key, metric in _CLOUDWATCH.items()
        }
        found = latest(client, now, asked)
        return _value(found) if len(found) == len(asked) else None

    def _from_prometheus(self) -> dict[str, float] | None:
        if self._reader is None:
            self._reader = prometheus(self.target, timeout_s=2.0, clock=self.clock)
        found = {
            key: self._of_bucket(self._reader.vector(series, allow_empty=True))
            for key, series in PROMETHEUS.items()
        }
        known = {key: value for key, value in found.items() if value is not None}
        return _value(known) if "pending" in known else None

    def _of_bucket(self, samples: Iterable[Sample]) -> float | None:
        """The largest value of this bucket, else of this region."""
        of = [s for s in samples if s.labels.get("region", self.region.name) == self.region.name]
        own = [s for s in of if s.labels.get("bucket") == self.region.bucket]
        return max((s.value for s in own or of), default=None)

    def renew(self) -> Replication:
        fresh = Replication(self.target, self.region, self.period_s, self.clock)
        fresh._by = self._by
        return fresh

    def close(self) -> None:
        super().close()
        if self._reader is not None:
            self._reader.close()


def _value(found: Mapping[str, float]) -> dict[str, float]:
    lag_s = found.get("lag_s", 0.0)
    return {"pending": int(found["pending"]), "lag_s": round(lag_s / _LAG_STEP_S) * _LAG_STEP_S}
