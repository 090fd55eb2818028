"""Stopping a service: its Deployment is asked for no pods, and for as many as before at the end.

What calls the service must cope without it: by a circuit breaker, with less than was asked for.
An autoscaler leaves a Deployment alone that is asked for none, and has its say again afterwards.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from harness.chaos import session as sessions
from harness.chaos.actions import workloads
from harness.chaos.registry import (
    Reach,
    ReadBack,
    UndoFunction,
    kubectl,
    register,
    require_allowed,
)
from harness.errors import Refused
from harness.target.kube import patch_json
from harness.target.model import Target

UNDO_KIND = "services.restart"
_PATH = "/spec/replicas"


def stop_service(
    cluster: str, deployment: str, stopped_within_s: float = 30.0, restored_within_s: float = 90.0
) -> dict[str, Any]:
    """Ask for no pods of ``deployment`` in ``cluster`` (name as in the target).

    Returns ``{"undo": id, "targets": ["deployment:CLUSTER/NAME"], "observed": pods left}``. Raises
    Refused, before anything is made, if it is not there, lacks the label ``chaos=allowed`` or is
    asked for none already. The fault holds when no pod of it is left, waited for up to
    ``stopped_within_s`` seconds; undoing it waits up to ``restored_within_s`` seconds until as
    many as before are ready.
    """
    session = sessions.current()
    where = {
        "cluster": cluster,
        "namespace": session.reach.target.namespace,
        "kind": "deployment",
        "name": deployment,
    }
    item = workloads.get(where, session.reach)
    what = f"deployment {cluster}/{deployment}"
    require_allowed(item["metadata"].get("labels"), what)
    replicas = int(item["spec"].get("replicas", 1))
    if replicas < 1:
        raise Refused(f"{what} is asked for no pods already", hint="is it the right cluster?")
    before = {**where, "replicas": replicas, "within_s": restored_within_s}
    return session.make_fault(
        undo=session.new_undo_id(),
        undo_kind=UNDO_KIND,
        action="stop_service",
        targets=[f"deployment:{cluster}/{deployment}"],
        before=before,
        call=lambda: _ask_for(before, session.reach.to("inject"), 0),
        read_back=lambda: _is_stopped(before, session.reach),
        seen_within_s=stopped_within_s,
    )


def _is_stopped(before: Mapping[str, Any], reach: Reach) -> ReadBack:
    item = workloads.get(before, reach)
    left = int((item.get("status") or {}).get("replicas") or 0)
    return ReadBack(item["spec"].get("replicas") == 0 and left == 0, left)


# ── undo ───────────────────────────────────────────────────────────────────────────────


def restore(before: Mapping[str, Any], reach: Reach) -> None:
    """Ask for as many pods as before; safe at any point of the fault, any number of times."""
    # A number that somebody else asks for meanwhile is theirs to decide about.
    if workloads.get(before, reach)["spec"].get("replicas") == 0:
        _ask_for(before, reach, before["replicas"])


def restored(before: Mapping[str, Any], reach: Reach) -> ReadBack:
    """Holds when pods are asked for and as many are ready."""
    item = workloads.get(before, reach)
    wanted = int(item["spec"].get("replicas", 1))
    ready = int((item.get("status") or {}).get("readyReplicas") or 0)
    return ReadBack(0 < wanted <= ready, {"ready": ready, "wanted": wanted})


def by_hand(before: Mapping[str, Any], target: Target | None) -> list[str]:
    """The line that asks for as many pods as before."""
    words = kubectl(target, before["cluster"], before["namespace"])
    words += ["scale", f"deployment/{before['name']}", f"--replicas={before['replicas']}"]
    return [shlex.join(words)]


register(UNDO_KIND, UndoFunction(restore, restored, by_hand, within_s=90.0))


# ── Kubernetes ─────────────────────────────────────────────────────────────────────────


def _ask_for(where: Mapping[str, Any], reach: Reach, replicas: int) -> None:
    """Change the number of pods asked for; a JSON Patch (RFC 6902), as it has nothing to merge."""
    change = [{"op": "replace", "path": _PATH, "value": replicas}]
    client = reach.kubernetes(where["cluster"])
    patch_json(client, workloads.path(where), change, "application/json-patch+json")
