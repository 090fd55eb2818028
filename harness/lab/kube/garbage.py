"""What goes when its owner goes: owned objects and the content of namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.lab.kube import kinds
from harness.lab.kube.controller import Key
from harness.lab.kube.kinds import Kind
from harness.lab.kube.objects import Obj, is_terminating, meta, name_of, namespace_of, uid_of
from harness.lab.kube.registry import FOREGROUND, ORPHAN, DeleteOptions, Registry
from harness.lab.kube.store import DELETED, Change


class GarbageCollector:
    """Keys are (uid, ""): of an object that is gone, or that waits for what it owns."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._waiting: dict[str, tuple[str, str, str]] = {}

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.EVENT.storage:
            return
        uid = uid_of(change.obj)
        if change.type == DELETED:
            self._waiting.pop(uid, None)
            yield uid, ""
            for reference in meta(change.obj).get("ownerReferences") or ():
                if reference["uid"] in self._waiting:
                    yield reference["uid"], ""
        elif is_terminating(change.obj) and self._is_held(change.obj):
            self._waiting[uid] = (
                change.resource,
                namespace_of(change.obj),
                name_of(change.obj),
            )
            yield uid, ""

    @staticmethod
    def _is_held(obj: Obj) -> bool:
        held = meta(obj).get("finalizers") or ()
        return FOREGROUND in held or ORPHAN in held

    def reconcile(self, key: Key) -> float | None:
        uid = key[0]
        owner = self._owner(uid)
        if owner is None:
            for kind, obj in self._owned(uid):
                self._release(kind, obj, uid, delete=True)
        elif ORPHAN in (meta(owner).get("finalizers") or ()):
            for kind, obj in self._owned(uid):
                self._release(kind, obj, uid, delete=False)
            self._take_off(uid, ORPHAN)
        elif owned := self._owned(uid):
            for kind, obj in owned:
                self._delete(kind, obj, "Foreground")
        else:
            self._take_off(uid, FOREGROUND)
        return None

    def _owner(self, uid: str) -> Obj | None:
        where = self._waiting.get(uid)
        found = self._registry.store.get(*where) if where else None
        return found if found and uid_of(found) == uid else None

    def _owned(self, uid: str) -> list[tuple[Kind, Obj]]:
        return [
            (kind, obj)
            for kind, obj in _everything(self._registry)
            if any(r.get("uid") == uid for r in meta(obj).get("ownerReferences") or ())
        ]

    def _release(self, kind: Kind, obj: Obj, uid: str, *, delete: bool) -> None:
        """Drop the reference to ``uid``; the object goes if it was the last owner."""
        others = [r for r in meta(obj)["ownerReferences"] if r["uid"] != uid]
        if delete and not others:
            self._delete(kind, obj, "Background")
            return

        def change(target: Obj) -> None:
            if others:
                target["metadata"]["ownerReferences"] = others
            else:
                target["metadata"].pop("ownerReferences", None)

        self._registry.mutate(kind, namespace_of(obj), name_of(obj), change)

    def _delete(self, kind: Kind, obj: Obj, propagation: str) -> None:
        if is_terminating(obj):
            return
        # A pod owns nothing: to wait for what it owns would only delay it.
        if kind.storage == kinds.POD.storage:
            propagation = "Background"
        options = DeleteOptions(propagation=propagation)
        self._registry.delete(kind, namespace_of(obj), name_of(obj), options)

    def _take_off(self, uid: str, finalizer: str) -> None:
        resource, namespace, name = self._waiting.pop(uid)
        kind = next(k for k in self._registry.kinds.stored() if k.storage == resource)

        def change(obj: Obj) -> None:
            left = [f for f in obj["metadata"].get("finalizers") or () if f != finalizer]
            obj["metadata"]["finalizers"] = left

        self._registry.mutate(kind, namespace, name, change)


def _everything(registry: Registry, namespace: str | None = None) -> Iterator[tuple[Kind, Obj]]:
    for kind in registry.kinds.stored():
        if kind.storage != kinds.EVENT.storage or namespace:
            for obj in registry.store.list(kind.storage, namespace):
                yield kind, obj


class NamespaceController:
    """Empties a namespace that is being deleted, then removes it; gives each its account."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.NAMESPACE.storage:
            yield "", name_of(change.obj)
        elif change.type == DELETED and (home := namespace_of(change.obj)):
            found = self._registry.store.get(kinds.NAMESPACE.storage, "", home)
            if found and is_terminating(found):
                yield "", home

    def reconcile(self, key: Key) -> float | None:
        name = key[1]
        namespace = self._registry.store.get(kinds.NAMESPACE.storage, "", name)
        if namespace is None:
            return None
        if not is_terminating(namespace):
            if not self._registry.store.get(kinds.SERVICE_ACCOUNT.storage, name, "default"):
                account = {"metadata": {"name": "default"}}
                self._registry.create(kinds.SERVICE_ACCOUNT, name, account)
            return None
        left = [(k, o) for k, o in _everything(self._registry, name) if k.namespaced]
        for kind, obj in left:
            if not is_terminating(obj):
                self._registry.delete(kind, name, name_of(obj), DeleteOptions())
        if not left:
            self._registry.store.remove(kinds.NAMESPACE.storage, "", name)
        return None
