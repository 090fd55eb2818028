"""Delivering a version: the image in a pod template is changed, and changed back at the end.

Works on Argo Rollouts' ``Rollout`` (canary, blue/green) and on a Deployment (rolling update),
through their own API; what happens then is the controller's business, and what is being
tested. The image before is recorded first. Going back skips the steps of a canary: a bad
version must not stay for as long as a good one takes.
"""

from __future__ import annotations

import json
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
from harness.target import rollouts
from harness.target.kube import patch_json
from harness.target.model import Target

UNDO_KIND = "delivery.restore"
#: How long a controller may take to look at a changed template, in seconds.
_LOOKS_S = 10.0


# ── actions ────────────────────────────────────────────────────────────────────────────


def deliver(
    cluster: str,
    image: str,
    rollout: str | None = None,
    deployment: str | None = None,
    container: str | None = None,
    restored_within_s: float = 90.0,
) -> dict[str, Any]:
    """Ask for ``image`` in ``container`` (by default the first) of a Rollout or a Deployment.

    Returns ``{"undo": id, "targets": ["rollout:CLUSTER/NAME"], "observed": image}``. Raises
    Refused, before anything is made, if it is not there, lacks the label ``chaos=allowed``, asks
    for that image already or is in the middle of another delivery. Undoing it waits up to
    ``restored_within_s`` seconds until nobody
    is sent to the version any more.
    """
    session = sessions.current()
    if (rollout is None) == (deployment is None):
        raise Refused("give rollout or deployment, one of them")
    kind, name = ("rollout", str(rollout)) if rollout else ("deployment", str(deployment))
    where = {
        "cluster": cluster,
        "namespace": session.reach.target.namespace,
        "kind": kind,
        "name": name,
    }
    item = workloads.get(where, session.reach)
    require_allowed(item["metadata"].get("labels"), f"{kind} {cluster}/{name}")
    if not _at_rest(kind, item):
        raise Refused(
            f"{kind} {cluster}/{name} is in the middle of a delivery, or was given up",
            hint="wait for it, or go back to the stable version first",
        )
    index = _container(item, container, f"{kind} {cluster}/{name}")
    before = _image(item, index)
    if before == image:
        raise Refused(f"{kind} {cluster}/{name} asks for {image} already")
    state = {
        **where,
        "container": index,
        "image": before,
        "delivered": image,
        "within_s": restored_within_s,
    }
    return session.make_fault(
        undo=session.new_undo_id(),
        undo_kind=UNDO_KIND,
        action="deliver",
        targets=[f"{kind}:{cluster}/{name}"],
        before=state,
        call=lambda: _set_image(state, session.reach.to("inject"), before, image),
        read_back=lambda: _delivered(state, session.reach),
        seen_within_s=_LOOKS_S,
    )


def _container(item: Mapping[str, Any], name: str | None, what: str) -> int:
    names = [c["name"] for c in item["spec"]["template"]["spec"]["containers"]]
    if name is None:
        return 0
    if name not in names:
        raise Refused(f"{what} has no container {name}", hint=f"one of {', '.join(names)}")
    return names.index(name)


def _delivered(state: Mapping[str, Any], reach: Reach) -> ReadBack:
    """Holds when the image is asked for and its controller has looked at it."""
    item = workloads.get(state, reach)
    image = _image(item, state["container"])
    return ReadBack(image == state["delivered"] and rollouts.is_observed(item), image)


# ── undo ───────────────────────────────────────────────────────────────────────────────


def restore(before: Mapping[str, Any], reach: Reach) -> None:
    """Ask for the image before again; safe at any point of the fault, any number of times."""
    item = workloads.get(before, reach)
    # An image that somebody else put there meanwhile is theirs to decide about.
    if _image(item, before["container"]) == before["delivered"]:
        _set_image(before, reach, before["delivered"], before["image"])


def restored(before: Mapping[str, Any], reach: Reach) -> ReadBack:
    """Holds when the version is not asked for and nobody is sent to it."""
    item = workloads.get(before, reach)
    image = _image(item, before["container"])
    status = item.get("status") or {}
    if image == before["delivered"] or not rollouts.is_observed(item):
        return ReadBack(False, image)
    at_rest = _at_rest(before["kind"], item)
    tried = before["kind"] == "rollout" and status.get("stableRS") != status.get("currentPodHash")
    if tried and not status.get("promoteFull"):
        # The version was everybody's already: the one before need not be tried step by step.
        _promote(before, reach)
    return ReadBack(at_rest, {"image": image, "phase": status.get("phase")})


def by_hand(before: Mapping[str, Any], target: Target | None) -> list[str]:
    """The line that asks for the image before, where the delivered one is still asked for."""
    words = kubectl(target, before["cluster"], before["namespace"])
    words += ["patch", f"{before['kind']}/{before['name']}", "--type", "json", "--patch"]
    change = _change(before, before["delivered"], before["image"])
    return [shlex.join([*words, json.dumps(change, separators=(",", ":"))])]


register(UNDO_KIND, UndoFunction(restore, restored, by_hand, within_s=90.0))


# ── Kubernetes ─────────────────────────────────────────────────────────────────────────


def _at_rest(kind: str, item: Mapping[str, Any]) -> bool:
    """Whether everybody is on the version asked for, and no other delivery is under way."""
    if not rollouts.is_observed(item):
        return False
    status = item.get("status") or {}
    if kind == "rollout":
        known = bool(status.get("stableRS"))
        return known and status["stableRS"] == status.get("currentPodHash")
    seen = rollouts.deployment_seen(item)
    return bool(seen["updated"] == seen["available"] == seen["total"] == seen["wanted"])


def _image(item: Mapping[str, Any], container: int) -> str:
    return str(item["spec"]["template"]["spec"]["containers"][container]["image"])


def _set_image(where: Mapping[str, Any], reach: Reach, old: str, new: str) -> None:
    """Change the image if it is still ``old``."""
    kind = "application/json-patch+json"
    change = _change(where, old, new)
    patch_json(reach.kubernetes(where["cluster"]), workloads.path(where), change, kind)


def _change(where: Mapping[str, Any], old: str, new: str) -> list[dict[str, str]]:
    """A JSON Patch (RFC 6902) that changes the image if it is still ``old``."""
    path = f"/spec/template/spec/containers/{where['container']}/image"
    return [
        {"op": "test", "path": path, "value": old},
        {"op": "replace", "path": path, "value": new},
    ]


def _promote(where: Mapping[str, Any], reach: Reach) -> None:
    change = {"status": {"promoteFull": True}}
    kind = "application/merge-patch+json"
    patch_json(reach.kubernetes(where["cluster"]), f"{workloads.path(where)}/status", change, kind)
