"""Deployments and Rollouts by name, as the actions that change them ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.chaos.registry import Reach
from harness.errors import Refused
from harness.target import rollouts
from harness.target.kube import get_json


def path(where: Mapping[str, Any]) -> str:
    """Where the API has the workload of ``kind`` (deployment or rollout) and ``name``."""
    if where["kind"] == "rollout":
        return rollouts.path(where["namespace"], where["name"])
    return f"/apis/apps/v1/namespaces/{where['namespace']}/deployments/{where['name']}"


def get(where: Mapping[str, Any], reach: Reach) -> dict[str, Any]:
    """The workload as plain JSON. Raises Refused if it is not there."""
    from kubernetes.client.exceptions import ApiException

    try:
        return get_json(reach.kubernetes(where["cluster"]), path(where))
    except ApiException as error:
        if error.status != 404:
            raise
        raise Refused(
            f"there is no {where['kind']} {where['name']} in {where['cluster']}/"
            f"{where['namespace']}",
            hint="check cluster and name; a Rollout needs Argo Rollouts",
        ) from error
