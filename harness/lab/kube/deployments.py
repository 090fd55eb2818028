"""Deployment controller: rolling updates by way of ReplicaSets, with a history to undo."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from harness.lab.kube import kinds
from harness.lab.kube.controller import Key
from harness.lab.kube.objects import (
    Obj,
    annotations_of,
    at,
    clone,
    condition,
    controller_of,
    int_or_percent,
    is_terminating,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_reference,
    parse_timestamp,
    set_condition,
    uid_of,
)
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.selectors import selector_object
from harness.lab.kube.store import Change

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_COMPONENT = "deployment-controller"
_HASH_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Obj) -> str:
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_HASH_LETTERS[b % len(_HASH_LETTERS)] for b in digest[:10])


def plain_template(replicaset: Obj) -> Obj:
    """The pod template of a ReplicaSet without the label the controller added."""
    template = clone(at(replicaset, "spec.template", {}))
    (template.get("metadata") or {}).get("labels", {}).pop(HASH_LABEL, None)
    return template


def revision_of(obj: Obj) -> int:
    return int(annotations_of(obj).get(REVISION, 0))


def rolling_limits(deployment: Obj) -> tuple[int, int]:
    """(pods above, pods below) the wanted number that a rolling update may use."""
    replicas = at(deployment, "spec.replicas", 0)
    rolling = at(deployment, "spec.strategy.rollingUpdate", {})
    surge = int_or_percent(rolling.get("maxSurge", "25%"), replicas, round_up=True)
    down = int_or_percent(rolling.get("maxUnavailable", "25%"), replicas, round_up=False)
    return (surge, down) if surge or down else (0, 1)


def _replicas(replicaset: Obj) -> int:
    return at(replicaset, "spec.replicas", 0)


def _available(replicaset: Obj) -> int:
    return at(replicaset, "status.availableReplicas", 0)


class DeploymentController:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.DEPLOYMENT.storage:
            yield namespace_of(change.obj), name_of(change.obj)
        elif change.resource == kinds.REPLICASET.storage:
            owner = controller_of(change.obj)
            if owner and owner["kind"] == "Deployment":
                yield namespace_of(change.obj), owner["name"]
        elif change.resource == kinds.POD.storage and change.type == "DELETED":
            yield from self._recreating(change.obj)

    def _recreating(self, pod: Obj) -> Iterable[Key]:
        """A Recreate rollout waits until the old pods are really gone."""
        for deployment in self._registry.store.list(kinds.DEPLOYMENT.storage, namespace_of(pod)):
            recreate = at(deployment, "spec.strategy.type") == "Recreate"
            if recreate and selector_object(at(deployment, "spec.selector"))(labels_of(pod)):
                yield namespace_of(deployment), name_of(deployment)

    def reconcile(self, key: Key) -> float | None:
        deployment = self._registry.store.get(kinds.DEPLOYMENT.storage, *key)
        if deployment is None or is_terminating(deployment):
            return None
        owned = self._owned(deployment)
        new = self._current(deployment, owned)
        if at(deployment, "spec.paused"):
            self._scale_paused(deployment, new, owned)
        else:
            new = self._ensure_current(deployment, new, owned)
            old = [r for r in self._owned(deployment) if uid_of(r) != uid_of(new)]
            if at(deployment, "spec.strategy.type") == "Recreate":
                self._recreate(deployment, new, old)
            else:
                self._roll(deployment, new, old)
            self._drop_history(deployment, old)
        return self._write_status(deployment, new)

    def _owned(self, deployment: Obj) -> list[Obj]:
        """Its ReplicaSets, oldest first; matching orphans are adopted."""
        matches = selector_object(at(deployment, "spec.selector"))
        found = []
        for replicaset in self._registry.store.list(
            kinds.REPLICASET.storage, namespace_of(deployment)
        ):
            owner = controller_of(replicaset)
            orphan = owner is None and not is_terminating(replicaset)
            if orphan and matches(labels_of(replicaset)):
                replicaset = self._adopt(deployment, replicaset)
                owner = controller_of(replicaset)
            if owner and owner["uid"] == uid_of(deployment):
                found.append(replicaset)
        return sorted(found, key=revision_of)

    def _adopt(self, deployment: Obj, replicaset: Obj) -> Obj:
        def change(obj: Obj) -> None:
            refs = obj["metadata"].setdefault("ownerReferences", [])
            refs.append(owner_reference(deployment))

        key = namespace_of(replicaset), name_of(replicaset)
        return self._registry.mutate(kinds.REPLICASET, *key, change) or replicaset

    def _current(self, deployment: Obj, owned: list[Obj]) -> Obj | None:
        template = at(deployment, "spec.template")
        return next(
            (r for r in owned if not is_terminating(r) and plain_template(r) == template), None
        )

    def _ensure_current(self, deployment: Obj, new: Obj | None, owned: list[Obj]) -> Obj:
        latest = max((revision_of(r) for r in owned), default=0)
        if new is None:
            new = self._create_replicaset(deployment, latest + 1, owned)
        elif revision_of(new) < latest:
            new = self._promote(deployment, new, latest + 1)
        self._annotate(deployment, new)
        return new

    def _create_replicaset(self, deployment: Obj, revision: int, owned: list[Obj]) -> Obj:
        template = clone(at(deployment, "spec.template"))
        hash_ = template_hash(template)
        if any(name_of(r) == f"{name_of(deployment)}-{hash_}" for r in owned):
            hash_ = self._registry.suffix() + hash_[:5]  # one of that name is being deleted
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[HASH_LABEL] = hash_
        selector = clone(at(deployment, "spec.selector"))
        selector.setdefault("matchLabels", {})[HASH_LABEL] = hash_
        body = {
            "metadata": {
                "name": f"{name_of(deployment)}-{hash_}",
                "labels": dict(labels),
                "annotations": {**self._inherited(deployment), REVISION: str(revision)},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": 0,
                "selector": selector,
                "template": template,
                "minReadySeconds": at(deployment, "spec.minReadySeconds", 0),
            },
        }
        created = self._registry.create(kinds.REPLICASET, namespace_of(deployment), body)
        message = f'Created new replica set "{name_of(created)}"'
        self._progress(deployment, "NewReplicaSetCreated", message)
        return created

    @staticmethod
    def _inherited(deployment: Obj) -> dict[str, str]:
        skipped = (_LAST_APPLIED, REVISION)
        return {k: v for k, v in annotations_of(deployment).items() if k not in skipped}

    def _promote(self, deployment: Obj, replicaset: Obj, revision: int) -> Obj:
        """An old template is wanted again (undo): its ReplicaSet gets the newest revision."""

        def change(obj: Obj) -> None:
            notes = obj["metadata"].setdefault("annotations", {})
            past = [notes[REVISION_HISTORY]] if notes.get(REVISION_HISTORY) else []
            notes[REVISION_HISTORY] = ",".join([*past, notes.get(REVISION, "0")])
            notes[REVISION] = str(revision)

        key = namespace_of(replicaset), name_of(replicaset)
        message = f'Found new replica set "{name_of(replicaset)}"'
        self._progress(deployment, "FoundNewReplicaSet", message)
        return self._registry.mutate(kinds.REPLICASET, *key, change) or replicaset

    def _annotate(self, deployment: Obj, new: Obj) -> None:
        revision = annotations_of(new)[REVISION]

        def change(obj: Obj) -> None:
            obj["metadata"].setdefault("annotations", {})[REVISION] = revision

        key = namespace_of(deployment), name_of(deployment)
        self._registry.mutate(kinds.DEPLOYMENT, *key, change)

    def _scale(self, deployment: Obj, replicaset: Obj, replicas: int) -> Obj:
        before = _replicas(replicaset)
        surge, _ = rolling_limits(deployment)
        wanted = at(deployment, "spec.replicas", 0)

        def change(obj: Obj) -> None:
            obj["spec"]["replicas"] = replicas
            notes = obj["metadata"].setdefault("annotations", {})
            notes.update({DESIRED: str(wanted), MAX_REPLICAS: str(wanted + surge)})

        key = namespace_of(replicaset), name_of(replicaset)
        scaled = self._registry.mutate(kinds.REPLICASET, *key, change) or replicaset
        if before != replicas:
            direction = "up" if replicas > before else "down"
            message = (
                f"Scaled {direction} replica set {name_of(replicaset)} from {before} to {replicas}"
            )
            self._registry.events.record(
                deployment, "ScalingReplicaSet", message, source=_COMPONENT
            )
        return scaled

    def _scale_paused(self, deployment: Obj, new: Obj | None, owned: list[Obj]) -> None:
        """While paused the wanted number still holds, for the newest set that has pods."""
        active = [r for r in owned if _replicas(r) > 0]
        if len(active) <= 1 and (target := active[0] if active else new) is not None:
            self._scale(deployment, target, at(deployment, "spec.replicas", 0))

    def _recreate(self, deployment: Obj, new: Obj, old: list[Obj]) -> None:
        for replicaset in old:
            if _replicas(replicaset):
                self._scale(deployment, replicaset, 0)
        old_uids = {uid_of(r) for r in old}
        remaining = any(
            (controller_of(pod) or {}).get("uid") in old_uids
            for pod in self._registry.store.list(kinds.POD.storage, namespace_of(deployment))
        )
        if not remaining:
            self._scale(deployment, new, at(deployment, "spec.replicas", 0))

    def _roll(self, deployment: Obj, new: Obj, old: list[Obj]) -> None:
        wanted = at(deployment, "spec.replicas", 0)
        surge, down = rolling_limits(deployment)
        total = _replicas(new) + sum(map(_replicas, old))
        if _replicas(new) > wanted:
            new = self._scale(deployment, new, wanted)
        elif _replicas(new) < wanted:
            room = max(0, wanted + surge - total)
            new = self._scale(deployment, new, min(wanted, _replicas(new) + room))
        active = [r for r in old if _replicas(r) > 0]
        if active and all(_is_observed(r) for r in (new, *active)):
            self._scale_down(deployment, new, active, wanted - down)

    def _scale_down(self, deployment: Obj, new: Obj, old: list[Obj], minimum: int) -> None:
        """Take away old pods: first those that do not serve, then while enough do."""
        total = _replicas(new) + sum(map(_replicas, old))
        room = total - minimum - (_replicas(new) - _available(new))
        if room <= 0:
            return
        serving = _available(new) + sum(map(_available, old))
        for replicaset in old:
            idle = min(room, _replicas(replicaset) - _available(replicaset))
            spare = max(0, min(room - idle, serving - minimum, _available(replicaset)))
            if idle + spare > 0:
                self._scale(deployment, replicaset, _replicas(replicaset) - idle - spare)
            room -= idle + spare
            serving -= spare

    def _drop_history(self, deployment: Obj, old: list[Obj]) -> None:
        limit = at(deployment, "spec.revisionHistoryLimit", 10)
        unused = [r for r in old if not _replicas(r) and not at(r, "status.replicas", 0)]
        for replicaset in unused[: max(0, len(unused) - limit)]:
            if not is_terminating(replicaset):
                self._registry.delete(
                    kinds.REPLICASET,
                    namespace_of(replicaset),
                    name_of(replicaset),
                    DeleteOptions(),
                )

    def _progress(self, deployment: Obj, reason: str, message: str) -> None:
        key = namespace_of(deployment), name_of(deployment)
        self._registry.mutate(
            kinds.DEPLOYMENT, *key, lambda obj: self._set_progress(obj, "True", reason, message)
        )

    def _set_progress(self, obj: Obj, status: str, reason: str, message: str) -> None:
        now = self._registry.now()
        set_condition(obj, "Progressing", status, now, reason=reason, message=message)
        (condition(obj, "Progressing") or {})["lastUpdateTime"] = now

    def _write_status(self, deployment: Obj, new: Obj | None) -> float | None:
        owned = self._owned(deployment)
        current = next((r for r in owned if new and uid_of(r) == uid_of(new)), None)
        counts = {
            "replicas": sum(at(r, "status.replicas", 0) for r in owned),
            "updatedReplicas": at(current, "status.replicas", 0) if current else 0,
            "readyReplicas": sum(at(r, "status.readyReplicas", 0) for r in owned),
            "availableReplicas": sum(map(_available, owned)),
        }
        # While a ReplicaSet has not been looked at its status tells of the past.
        wanted_now = sum(map(_replicas, owned))
        counts["unavailableReplicas"] = max(0, wanted_now - counts["availableReplicas"])
        wait: list[float] = []

        def change(obj: Obj) -> None:
            before = obj.get("status") or {}
            status = {k: v for k, v in counts.items() if v}
            status["observedGeneration"] = meta(deployment).get("generation", 1)
            status["conditions"] = before.get("conditions") or []
            obj["status"] = status
            self._set_available(obj)
            wait.extend(self._judge_progress(obj, before, current))

        self._registry.mutate(
            kinds.DEPLOYMENT, namespace_of(deployment), name_of(deployment), change
        )
        return wait[0] if wait else None

    def _set_available(self, obj: Obj) -> None:
        _, down = rolling_limits(obj)
        enough = at(obj, "status.availableReplicas", 0) >= at(obj, "spec.replicas", 0) - down
        words = (
            ("MinimumReplicasAvailable", "Deployment has minimum availability.")
            if enough
            else ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        )
        now = self._registry.now()
        before = (condition(obj, "Available") or {}).get("status")
        text = "True" if enough else "False"
        set_condition(obj, "Available", text, now, reason=words[0], message=words[1])
        if before != text:
            (condition(obj, "Available") or {})["lastUpdateTime"] = now

    def _judge_progress(self, obj: Obj, before: Obj, current: Obj | None) -> list[float]:
        """Set the Progressing condition; returns [seconds until it may time out]."""
        if current is None or at(obj, "spec.paused"):
            return []
        name, status = name_of(current), obj["status"]
        wanted = at(obj, "spec.replicas", 0)
        counts = ("updatedReplicas", "replicas", "availableReplicas")
        progressing = condition(obj, "Progressing") or {}
        if all(status.get(key, 0) == wanted for key in counts):
            message = f'ReplicaSet "{name}" has successfully progressed.'
            if progressing.get("message") != message:
                self._set_progress(obj, "True", "NewReplicaSetAvailable", message)
            return []
        if progressing.get("reason") == "NewReplicaSetAvailable":
            return []
        if any(status.get(key, 0) != before.get(key, 0) for key in counts) or not progressing:
            message = f'ReplicaSet "{name}" is progressing.'
            self._set_progress(obj, "True", "ReplicaSetUpdated", message)
            progressing = condition(obj, "Progressing") or {}
        deadline_s = at(obj, "spec.progressDeadlineSeconds", 600)
        left_s = (
            parse_timestamp(progressing["lastUpdateTime"])
            + deadline_s
            - self._registry.clock.wall_s()
        )
        if left_s > 0:
            return [left_s]
        message = f'ReplicaSet "{name}" has timed out progressing.'
        if progressing.get("status") != "False":
            self._set_progress(obj, "False", "ProgressDeadlineExceeded", message)
        return []


def _is_observed(replicaset: Obj) -> bool:
    return at(replicaset, "status.observedGeneration", 0) >= meta(replicaset).get("generation", 1)
