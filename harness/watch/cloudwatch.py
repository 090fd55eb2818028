"""The newest values of some CloudWatch metrics, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

#: CloudWatch keeps most service metrics by the minute and is a few minutes late.
_PERIOD_S = 60
_LOOK_BACK = timedelta(minutes=10)

#: namespace, metric, dimensions, statistic
Query = tuple[str, str, list[dict[str, str]], str]


def latest(client: Any, now: datetime, asked: Mapping[str, Query]) -> dict[str, float]:
    """``{key: newest value of the last ten minutes}``; keys without a value are left out."""
    ids = {f"m{i}": key for i, key in enumerate(asked)}
    queries = [
        {"Id": i, "MetricStat": _stat(asked[key]), "ReturnData": True} for i, key in ids.items()
    ]
    answer = client.get_metric_data(
        MetricDataQueries=queries,
        StartTime=now - _LOOK_BACK,
        EndTime=now + timedelta(seconds=_PERIOD_S),
        ScanBy="TimestampDescending",
    )
    found = {}
    for result in answer["MetricDataResults"]:
        points = sorted(zip(result["Timestamps"], result["Values"], strict=True))
        if points:
            found[ids[result["Id"]]] = float(points[-1][1])
    return found


def _stat(query: Query) -> dict[str, Any]:
    namespace, name, dimensions, statistic = query
    metric = {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions}
    return {"Metric": metric, "Period": _PERIOD_S, "Stat": statistic}
