"""All objects of one cluster, with versions, history and listeners.

Every change gets the next resource version. The last changes are kept so that a
watch can start from a version a client saw earlier; one that is too old is told
so (410 Gone) and lists again, as with a real server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from harness.lab.kube.apierror import gone
from harness.lab.kube.objects import Obj, name_of, namespace_of

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


@dataclass(frozen=True)
class Change:
    """One change; ``old`` is None for ADDED, ``obj`` is the last state for DELETED."""

    version: int
    type: str
    resource: str
    obj: Obj
    old: Obj | None


Listener = Callable[[Change], None]


class Store:
    """Objects by resource (``"apps/deployments"``, ``"/pods"``), namespace and name.

    What it returns is shared: clone before changing.
    """

    def __init__(self, *, history: int = 5000, first_version: int = 1000) -> None:
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self._history: deque[Change] = deque(maxlen=history)
        self._listeners: list[Listener] = []
        self._first_version = first_version
        self.version = first_version

    def get(self, resource: str, namespace: str, name: str) -> Obj | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Obj]:
        """Objects ordered by namespace and name; all namespaces if None."""
        items = self._objects.get(resource, {})
        return [items[key] for key in sorted(items) if namespace in (None, "", key[0])]

    def resources(self) -> list[str]:
        return list(self._objects)

    def put(self, resource: str, obj: Obj) -> Obj:
        """Store ``obj`` (which the store now owns) under the next version and tell listeners."""
        items = self._objects.setdefault(resource, {})
        key = (namespace_of(obj), name_of(obj))
        old = items.get(key)
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        items[key] = obj
        self._tell(Change(self.version, ADDED if old is None else MODIFIED, resource, obj, old))
        return obj

    def remove(self, resource: str, namespace: str, name: str) -> Obj | None:
        """Take the object out; returns its last state (with a version of its own), or None."""
        old = self._objects.get(resource, {}).pop((namespace, name), None)
        if old is None:
            return None
        self.version += 1
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._tell(Change(self.version, DELETED, resource, last, old))
        return last

    def changes_since(self, version: int, resource: str) -> list[Change]:
        """Changes after ``version``. Raises ApiError 410 if they are no longer known."""
        complete_from = self._history[0].version - 1 if self._history else self.version
        if len(self._history) < (self._history.maxlen or 0):
            complete_from = self._first_version
        if version < complete_from or version > self.version:
            raise gone(f"too old resource version: {version} ({complete_from})")
        return [c for c in self._history if c.version > version and c.resource == resource]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` on each change, in order; returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self, change: Change) -> None:
        self._history.append(change)
        for listener in tuple(self._listeners):
            listener(change)
