"""``health_check:<region>`` → ``healthy`` or ``unhealthy``, as Route 53 would decide."""

from __future__ import annotations

from collections.abc import Mapping

from harness.target.model import Region, Target
from harness.target.route53 import health
from harness.watch.aws_observer import AwsObserver


class HealthChecks(AwsObserver):
    """One region's Route 53 health check, by what its checkers observed."""

    def __init__(self, target: Target, region: Region, period_s: float) -> None:
        super().__init__(target, region, period_s)
        self.name = f"health_check-{region.name}"
        self.subjects = (f"health_check:{region.name}",)

    def poll(self) -> Mapping[str, str]:
        answer = self.client("route53").get_health_check_status(
            HealthCheckId=self.region.health_check_id
        )
        return {self.subjects[0]: health(answer["HealthCheckObservations"])[0]}
