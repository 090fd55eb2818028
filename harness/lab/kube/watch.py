"""Watching: the changes of a kind as a stream, from any version still known.

A watcher sees an object that starts to match its selector as ADDED and one that no
longer does as DELETED. With ``sendInitialEvents`` the present state comes first,
closed by a BOOKMARK with the annotation clients wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from harness.lab.kube.apierror import ApiError, bad_request
from harness.lab.kube.kinds import Kind
from harness.lab.kube.objects import Obj, namespace_of
from harness.lab.kube.store import ADDED, DELETED, MODIFIED, Change, Store

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_BOOKMARK_S = 60.0
_BACKLOG = 10_000


@dataclass(frozen=True)
class WatchOptions:
    """``version`` is the query's resourceVersion as sent; ``timeout_s`` ends the stream."""

    kind: Kind
    namespace: str
    version: str
    matches: Callable[[Obj], bool]
    initial_events: bool
    bookmarks: bool
    timeout_s: float


def parse_version(text: str) -> int:
    if not text.isdigit():
        raise bad_request(f"resourceVersion: Invalid value: {text!r}")
    return int(text)


def _view(kind: Kind, obj: Obj) -> Obj:
    return kind.to_view(obj) if kind.to_view else obj


class Watch:
    """One watcher; iterate :meth:`events` and call :meth:`close` afterwards."""

    def __init__(self, store: Store, options: WatchOptions) -> None:
        self._store = store
        self._options = options
        self._queue: asyncio.Queue[tuple[str, Obj]] = asyncio.Queue(_BACKLOG)
        self._overflowed = False
        # Listening starts before anything is read, so that no change falls between.
        self._first = self._initial()
        self._unsubscribe = store.subscribe(self._on_change)

    def _initial(self) -> list[tuple[str, Obj]]:
        options = self._options
        version = parse_version(options.version) if options.version else 0
        if options.initial_events or version == 0:
            objects = self._store.list(options.kind.storage, options.namespace or None)
            views = (_view(options.kind, obj) for obj in objects)
            found = [(ADDED, view) for view in views if options.matches(view)]
            if options.initial_events:
                found.append(("BOOKMARK", self._bookmark(initial_end=True)))
            return found
        try:
            changes = self._store.changes_since(version, options.kind.storage)
        except ApiError as error:
            return [("ERROR", error.status())]
        return list(self._events_of(changes))

    def _bookmark(self, *, initial_end: bool = False) -> Obj:
        metadata: Obj = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        kind = self._options.kind
        return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}

    def _events_of(self, changes: Iterable[Change]) -> Iterable[tuple[str, Obj]]:
        options = self._options
        for change in changes:
            if change.resource != options.kind.storage:
                continue
            if options.namespace and namespace_of(change.obj) != options.namespace:
                continue
            new = _view(options.kind, change.obj)
            old = _view(options.kind, change.old) if change.old else None
            is_in = change.type != DELETED and options.matches(new)
            was_in = old is not None and options.matches(old)
            if is_in:
                yield (MODIFIED if was_in else ADDED), new
            elif was_in:
                yield DELETED, new

    def _on_change(self, change: Change) -> None:
        for event in self._events_of((change,)):
            if self._queue.full():
                self._overflowed = True  # a client that does not read must list again
                return
            self._queue.put_nowait(event)

    async def events(self) -> AsyncIterator[tuple[str, Obj]]:
        """(type, object) until the timeout; ERROR is the last one."""
        for event in self._first:
            yield event
            if event[0] == "ERROR":
                return
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.timeout_s
        while not self._overflowed and (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, _BOOKMARK_S)):
                    event = await self._queue.get()
            except TimeoutError:
                if self._options.bookmarks:
                    yield "BOOKMARK", self._bookmark()
                continue
            yield event

    def close(self) -> None:
        self._unsubscribe()
