"""What a write means: defaults, refusals, versions, generations and deletion.

The API server and the controllers share this, so an object changed in process
obeys the same rules as one changed by ``kubectl``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from harness.clock import Clock
from harness.lab.kube import apierror, kinds
from harness.lab.kube.defaults import check_name
from harness.lab.kube.events import Recorder
from harness.lab.kube.kinds import Kind, KindTable
from harness.lab.kube.objects import (
    Obj,
    clone,
    is_terminating,
    meta,
    name_of,
    namespace_of,
    timestamp,
    uid_of,
    without_nulls,
)
from harness.lab.kube.store import Store

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_KEPT_META = ("uid", "creationTimestamp", "generation", "name", "namespace")
_KEPT_META_OPTIONAL = ("deletionTimestamp", "deletionGracePeriodSeconds")


@dataclass(frozen=True)
class DeleteOptions:
    """``grace_s`` None means the object's own; ``propagation`` as in the Kubernetes API."""

    grace_s: int | None = None
    propagation: str = "Background"
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


class Registry:
    """Reads and writes of one cluster's objects. Raises ApiError where a server would refuse."""

    def __init__(
        self,
        store: Store,
        kind_table: KindTable,
        clock: Clock,
        rng: random.Random,
        *,
        default_grace_s: int = 30,
    ) -> None:
        self._default_grace_s = default_grace_s
        self.store = store
        self.kinds = kind_table
        self.clock = clock
        self._rng = rng
        self.events = Recorder(store, clock, self.new_uid)

    def new_uid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def suffix(self) -> str:
        return "".join(self._rng.choice(_SUFFIX_LETTERS) for _ in range(5))

    def now(self) -> str:
        return timestamp(self.clock.wall_s())

    def get(self, kind: Kind, namespace: str, name: str) -> Obj:
        found = self.store.get(kind.storage, namespace, name)
        if found is None:
            raise apierror.not_found(kind.plural, kind.group, name)
        return found

    def create(self, kind: Kind, namespace: str, obj: Obj, *, dry_run: bool = False) -> Obj:
        """Store a new object (``obj`` is not kept). Raises ApiError 404, 409, 422."""
        obj = without_nulls(obj)
        metadata = obj.setdefault("metadata", {})
        self._name(kind, namespace, metadata)
        obj["apiVersion"], obj["kind"] = self._stored_type(kind)
        if kind.has_status:
            obj.pop("status", None)
        metadata.update(uid=self.new_uid(), creationTimestamp=self.now())
        for key in ("resourceVersion", "selfLink", "managedFields", *_KEPT_META_OPTIONAL):
            metadata.pop(key, None)
        if kind.counts_generations:
            metadata["generation"] = 1
        self._complete(kind, obj, None)
        if self.store.get(kind.storage, namespace, metadata["name"]) is not None:
            raise apierror.already_exists(kind.plural, kind.group, metadata["name"])
        return obj if dry_run else self.store.put(kind.storage, obj)

    def _stored_type(self, kind: Kind) -> tuple[str, str]:
        group, _, plural = kind.storage.partition("/")
        for stored in self.kinds.stored():
            if (stored.group, stored.plural) == (group, plural):
                return stored.api_version, stored.kind
        return kind.api_version, kind.kind

    def _name(self, kind: Kind, namespace: str, metadata: Obj) -> None:
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + self.suffix()
        if not kind.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.setdefault("namespace", namespace) != namespace:
            raise apierror.bad_request(
                "the namespace of the provided object does not match the namespace sent "
                "on the request"
            )
        home = self.store.get(kinds.NAMESPACE.storage, "", namespace)
        if home is None:
            raise apierror.not_found("namespaces", "", namespace)
        if is_terminating(home):
            why = f"unable to create new content in namespace {namespace} because it is "
            raise apierror.ApiError(403, "Forbidden", f"{why}being terminated")

    def _complete(self, kind: Kind, obj: Obj, old: Obj | None) -> None:
        causes = check_name(name_of(obj))
        if not causes:
            if kind.default:
                kind.default(obj)
            causes = kind.check(obj, old) if kind.check else []
        if causes:
            raise apierror.invalid(kind.kind, kind.group, name_of(obj), causes)

    def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        obj: Obj,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Replace an object or its status. Raises ApiError 404, 409 (stale version), 422."""
        old = self.get(kind, namespace, name)
        new = self._next(kind, old, without_nulls(obj), subresource)
        self._complete(kind, new, old)
        return new if dry_run else self._commit(kind, old, new)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Callable[[Obj], Obj],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Update with ``change`` of the present state."""
        old = self.get(kind, namespace, name)
        return self.update(
            kind, namespace, name, change(old), subresource=subresource, dry_run=dry_run
        )

    def _next(self, kind: Kind, old: Obj, new: Obj, subresource: str) -> Obj:
        """The object to store: what the writer may not change comes from ``old``."""
        sent = new.get("metadata") or {}
        version = sent.get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise apierror.modified(kind.plural, kind.group, name_of(old))
        if sent.get("uid") and sent["uid"] != uid_of(old):
            why = f"Precondition failed: UID in precondition: {sent['uid']}"
            raise apierror.conflict(kind.plural, kind.group, name_of(old), why)
        if sent.get("name", name_of(old)) != name_of(old):
            raise apierror.bad_request("the name of the object does not match the name on the URL")
        if subresource == "status":
            return {**clone(old), "status": new.get("status") or {}}
        new["apiVersion"], new["kind"] = old["apiVersion"], old["kind"]
        kept = {key: old["metadata"][key] for key in _KEPT_META if key in old["metadata"]}
        new["metadata"] = {**sent, **kept}
        new["metadata"].pop("managedFields", None)
        for key in _KEPT_META_OPTIONAL:
            new["metadata"].pop(key, None)
            if key in old["metadata"]:
                new["metadata"][key] = old["metadata"][key]
        if kind.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = clone(old["status"])
        return new

    def mutate(
        self, kind: Kind, namespace: str, name: str, change: Callable[[Obj], None]
    ) -> Obj | None:
        """Change the present object in place, status included; for controllers.

        Returns the stored object, or None if there is no such object. A change that
        changes nothing makes no new version.
        """
        old = self.store.get(kind.storage, namespace, name)
        if old is None:
            return None
        new = clone(old)
        change(new)
        return self._commit(kind, old, new)

    def _commit(self, kind: Kind, old: Obj, new: Obj) -> Obj:
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return old
        if kind.counts_generations and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        finalized = is_terminating(new) and not new["metadata"].get("finalizers")
        if finalized and not self._has_keeper(kind, new):
            return self.store.remove(kind.storage, namespace_of(old), name_of(old)) or new
        return self.store.put(kind.storage, new)

    @staticmethod
    def _has_keeper(kind: Kind, obj: Obj) -> bool:
        """Running pods are removed by their kubelet and namespaces by their controller."""
        if kind.storage == kinds.POD.storage:
            return obj.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        return kind.storage == kinds.NAMESPACE.storage

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Obj | None:
        """Delete, gracefully where the kind asks for it.

        Returns the object while it is still there (terminating), None if it is gone.
        """
        old = self.get(kind, namespace, name)
        if options.uid and options.uid != uid_of(old):
            why = f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: "
            raise apierror.conflict(kind.plural, kind.group, name, why + uid_of(old))
        if options.resource_version and options.resource_version != meta(old)["resourceVersion"]:
            raise apierror.modified(kind.plural, kind.group, name)
        new = clone(old)
        grace_s = self._grace_s(kind, old, options)
        self._add_finalizer(new, options.propagation)
        if grace_s == 0 and not new["metadata"].get("finalizers"):
            if not options.dry_run:
                self.store.remove(kind.storage, namespace, name)
            return None
        metadata = new["metadata"]
        previous = metadata.get("deletionGracePeriodSeconds")
        if previous is None or grace_s < previous:
            metadata["deletionTimestamp"] = timestamp(self.clock.wall_s() + grace_s)
            metadata["deletionGracePeriodSeconds"] = grace_s
        if kind.storage == kinds.NAMESPACE.storage:
            new["status"]["phase"] = "Terminating"
        return new if options.dry_run else self._commit(kind, old, new)

    @staticmethod
    def _add_finalizer(obj: Obj, propagation: str) -> None:
        finalizer = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(propagation)
        held = obj["metadata"].get("finalizers") or []
        if finalizer and finalizer not in held:
            obj["metadata"]["finalizers"] = [*held, finalizer]

    def grace_of(self, pod: Obj) -> int:
        """Seconds a pod is given to end by itself."""
        return int(pod["spec"].get("terminationGracePeriodSeconds", self._default_grace_s))

    def _grace_s(self, kind: Kind, obj: Obj, options: DeleteOptions) -> int:
        if kind.storage == kinds.NAMESPACE.storage:
            return 1  # its content goes first
        if kind.storage != kinds.POD.storage:
            return 0
        finished = obj.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if finished or not obj["spec"].get("nodeName"):
            return 0
        if options.grace_s is not None:
            return max(0, options.grace_s)
        return self.grace_of(obj)

    def remove(self, kind: Kind, obj: Obj) -> None:
        """Take a terminated object out at once, if it is still that one."""
        present = self.store.get(kind.storage, namespace_of(obj), name_of(obj))
        if present is None or uid_of(present) != uid_of(obj):
            return
        if present["metadata"].get("finalizers"):
            # Nothing but its finalizers keeps it: it goes when the last one is taken off.
            self.mutate(kind, namespace_of(obj), name_of(obj), _mark_finished)
            return
        self.store.remove(kind.storage, namespace_of(obj), name_of(obj))


def _mark_finished(obj: Obj) -> None:
    obj.setdefault("status", {})["phase"] = "Succeeded"
