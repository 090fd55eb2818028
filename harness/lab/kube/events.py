"""Events, kept once and shown through both APIs: core/v1 and events.k8s.io/v1."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from harness.clock import Clock
from harness.lab.kube.objects import (
    Obj,
    clone,
    micro_timestamp,
    name_of,
    namespace_of,
    timestamp,
    uid_of,
)
from harness.lab.kube.store import Store

RESOURCE = "/events"

#: (core/v1 field, events.k8s.io/v1 field)
_RENAMED = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)


def to_events_v1(obj: Obj) -> Obj:
    """The events.k8s.io/v1 view of a stored (core/v1) event."""
    new = dict(_RENAMED)
    view = {new.get(key, key): value for key, value in obj.items()}
    return {**view, "apiVersion": "events.k8s.io/v1", "kind": "Event"}


def from_events_v1(obj: Obj) -> Obj:
    """The stored form of an events.k8s.io/v1 event."""
    old = {new: core for core, new in _RENAMED}
    view = {old.get(key, key): value for key, value in obj.items()}
    return {**view, "apiVersion": "v1", "kind": "Event"}


class Recorder:
    """Writes what controllers and kubelets did; equal events are counted, old ones dropped."""

    def __init__(
        self, store: Store, clock: Clock, new_id: Callable[[], str], *, keep: int = 1000
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._keep = keep
        self._known: OrderedDict[tuple[str, str, str], tuple[str, str]] = OrderedDict()

    def record(
        self,
        about: Obj,
        reason: str,
        message: str,
        *,
        source: str,
        warning: bool = False,
        host: str = "",
    ) -> None:
        """One event about an object (a stored one: kind, name and uid are read from it)."""
        now = self._clock.wall_s()
        key = (uid_of(about), reason, message)
        known = self._known.get(key)
        stored = self._store.get(RESOURCE, *known) if known else None
        if stored is not None:
            event = clone(stored)
            event["count"] = event.get("count", 1) + 1
            event["lastTimestamp"] = timestamp(now)
        else:
            event = self._new_event(about, reason, message, source, warning, host, now)
        self._store.put(RESOURCE, event)
        self._known[key] = (namespace_of(event), name_of(event))
        self._known.move_to_end(key)
        while len(self._known) > self._keep:
            _, oldest = self._known.popitem(last=False)
            self._store.remove(RESOURCE, *oldest)

    def _new_event(
        self,
        about: Obj,
        reason: str,
        message: str,
        source: str,
        warning: bool,
        host: str,
        now: float,
    ) -> Obj:
        namespace = namespace_of(about) or "default"
        uid = self._new_id()
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{name_of(about)}.{uid.replace('-', '')[:16]}",
                "namespace": namespace,
                "uid": uid,
                "creationTimestamp": timestamp(now),
            },
            "involvedObject": {
                "apiVersion": about.get("apiVersion", "v1"),
                "kind": about.get("kind", ""),
                "name": name_of(about),
                "namespace": namespace_of(about),
                "uid": uid_of(about),
                "resourceVersion": about.get("metadata", {}).get("resourceVersion", ""),
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": source, **({"host": host} if host else {})},
            "reportingComponent": source,
            "reportingInstance": host,
            "action": reason,
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
            "eventTime": micro_timestamp(now),
            "count": 1,
        }
