"""Reading the roles of databases from what RDS describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def roles(instances: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``{instance id: {"role", "status", "zone", "source"}}`` of DescribeDBInstances.

    ``role`` is ``replica`` when it has a source (an instance id, also when the source
    is named by ARN from another region), else ``primary``.
    """
    found = {}
    for db in instances:
        source = db.get("ReadReplicaSourceDBInstanceIdentifier") or None
        found[db["DBInstanceIdentifier"]] = {
            "role": "replica" if source else "primary",
            "status": db["DBInstanceStatus"],
            "zone": db.get("AvailabilityZone"),
            "source": source.rpartition(":")[2] if source else None,
        }
    return found
