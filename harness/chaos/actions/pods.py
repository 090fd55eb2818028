"""Killing pods: chosen, shown and capped first, deleted by uid, seen gone.

There is nothing to give back to Kubernetes: the undo of this fault is to see that the
system itself replaced what was killed.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from harness.chaos import session as sessions
from harness.chaos.registry import (
    Reach,
    ReadBack,
    UndoFunction,
    kubectl,
    register,
    require_allowed,
)
from harness.errors import Refused
from harness.target.model import Target

UNDO_KIND = "pods.verify_replaced"
#: More pods than this are killed only if the experiment says so.
AT_MOST = 5


def kill_pods(
    cluster: str,
    app: str,
    count: int | None = None,
    percent: float | None = None,
    at_most: int = AT_MOST,
    replaced_within_s: float = 60.0,
) -> dict[str, Any]:
    """Kill pods labelled ``app=APP`` in ``cluster``, without grace.

    ``count`` or ``percent`` (rounded up) of the ready ones, first by name; all if neither
    is given. Undoing it waits up to ``replaced_within_s`` seconds for replacements.
    Returns ``{"undo": id, "targets": ["name uid"], "observed": [uids still there]}``.
    Raises Refused, before anything is made, if no pod matches, more than ``at_most``
    would die, or one of them lacks the label ``chaos=allowed``.
    """
    session = sessions.current()
    namespace = session.reach.target.namespace
    core, apps = _apis(session.reach, cluster)
    ready = sorted((p for p in _pods(core, namespace, app) if _is_ready(p)), key=_name)
    victims = _choose(ready, count, percent, at_most, f"app={app} in {cluster}/{namespace}")
    for pod in victims:
        require_allowed(pod.metadata.labels, f"pod {cluster}/{_name(pod)}")
    uids = {p.metadata.uid for p in victims}
    before = {
        "cluster": cluster,
        "namespace": namespace,
        "app": app,
        "desired": _desired(apps, namespace, app) or len(ready),
        "uids": sorted(uids),
        "within_s": replaced_within_s,
    }
    return session.make_fault(
        undo=session.new_undo_id(),
        undo_kind=UNDO_KIND,
        action="kill_pods",
        # With the uid: what watches pods knows them by it, and names may be reused.
        targets=[f"{_name(p)} {p.metadata.uid}" for p in victims],
        # A pod that was replaced since is another; that it is one of these stays true.
        aim=[f"{cluster}/{namespace} app={app} #{n + 1}" for n in range(len(victims))],
        of=len(ready),
        before=before,
        call=lambda: _delete(session.reach.to("inject"), before, victims),
        read_back=lambda: _gone(core, namespace, app, uids),
    )


def _choose(
    ready: list[Any], count: int | None, percent: float | None, at_most: int, what: str
) -> list[Any]:
    """The pods to kill; Refused unless there is at least one and no more than allowed."""
    if count is not None and percent is not None:
        raise Refused("give count or percent, not both")
    if (count is not None and count < 1) or (percent is not None and not 0 < percent <= 100):
        raise Refused("count is 1 or more, percent is above 0 and at most 100")
    if not ready:
        raise Refused(f"no ready pod matches {what}", hint="check cluster, namespace and label")
    wanted = len(ready) if percent is None else math.ceil(len(ready) * percent / 100)
    wanted = wanted if count is None else count
    if wanted > len(ready):
        raise Refused(f"{wanted} pods wanted, only {len(ready)} ready match {what}")
    if wanted > at_most:
        raise Refused(
            f"{wanted} pods match {what}, at most {at_most} may be killed",
            hint="raise `at_most` in the experiment if that is meant",
        )
    return ready[:wanted]


def _delete(reach: Reach, where: Mapping[str, Any], victims: list[Any]) -> None:
    from kubernetes.client import V1DeleteOptions, V1Preconditions
    from kubernetes.client.exceptions import ApiException

    core, _ = _apis(reach, where["cluster"])
    for pod in victims:
        # By uid: a pod that took the name meanwhile is not the one that was chosen.
        options = V1DeleteOptions(
            grace_period_seconds=0, preconditions=V1Preconditions(uid=pod.metadata.uid)
        )
        try:
            core.delete_namespaced_pod(_name(pod), where["namespace"], body=options)
        except ApiException as error:
            if error.status not in (404, 409):
                raise


def _gone(core: Any, namespace: str, app: str, uids: set[str]) -> ReadBack:
    still = sorted(uids & {p.metadata.uid for p in _pods(core, namespace, app)})
    return ReadBack(not still, still)


# ── undo ───────────────────────────────────────────────────────────────────────────────


def restore(before: Mapping[str, Any], reach: Reach) -> None:
    """Nothing: Kubernetes replaces pods, and whether it does is what is being tested."""


def replaced(before: Mapping[str, Any], reach: Reach) -> ReadBack:
    """Holds when as many pods are ready as are wanted, none of them one that was killed."""
    core, apps = _apis(reach, before["cluster"])
    pods = _pods(core, before["namespace"], before["app"])
    ready = [p for p in pods if _is_ready(p)]
    # Wanted now, not then: an autoscaler may have had a say meanwhile.
    desired = _desired(apps, before["namespace"], before["app"]) or before["desired"]
    return ReadBack(len(ready) >= desired, {"ready": len(ready), "desired": desired})


def by_hand(before: Mapping[str, Any], target: Target | None) -> list[str]:
    """Nothing is to be undone: what there is to look at."""
    words = kubectl(target, before["cluster"], before["namespace"])
    return [shlex.join([*words, "get", "pods", "--selector", f"app={before['app']}"])]


register(UNDO_KIND, UndoFunction(restore, replaced, by_hand, within_s=60.0, restores=False))


# ── reading Kubernetes ─────────────────────────────────────────────────────────────────


def _apis(reach: Reach, cluster: str) -> tuple[Any, Any]:
    from kubernetes.client import AppsV1Api, CoreV1Api

    client = reach.kubernetes(cluster)
    return CoreV1Api(client), AppsV1Api(client)


def _pods(core: Any, namespace: str, app: str) -> list[Any]:
    return list(core.list_namespaced_pod(namespace, label_selector=f"app={app}").items)


def _desired(apps: Any, namespace: str, app: str) -> int:
    """Replicas that the Deployments selecting ``app=APP`` ask for; 0 if there is none."""
    return sum(
        deployment.spec.replicas or 0
        for deployment in apps.list_namespaced_deployment(namespace).items
        if (deployment.spec.selector.match_labels or {}).get("app") == app
    )


def _is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or ()
    return pod.metadata.deletion_timestamp is None and any(
        c.type == "Ready" and c.status == "True" for c in conditions
    )


def _name(pod: Any) -> str:
    return str(pod.metadata.name)
