"""The objects a generator has stored and may ask for again.

An object is known once its upload was acknowledged, and forgotten when it is deleted or
when the service says it has no such object (a client that got 404 does not go on asking;
whether the object was lost is decided by read-back, from the ledger).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.load.content import zipf_rank

#: A service that answers 404 to everything must not end the traffic.
KEEP_AT_LEAST = 20


@dataclass(eq=False)
class StoredObject:
    """An acknowledged object. ``users`` counts requests in flight that ask for it."""

    object_id: str
    sha256: str
    size_bytes: int
    etag: str = ""
    users: int = 0


class KnownObjects:
    """Objects in the order they were stored; the oldest is the most popular."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._objects: list[StoredObject] = []

    def __len__(self) -> int:
        return len(self._objects)

    def add(self, stored: StoredObject) -> None:
        self._objects.append(stored)

    def popular(self) -> StoredObject | None:
        """One object, drawn by popularity; None when there is none."""
        if not self._objects:
            return None
        return self._objects[zipf_rank(self._source.random(), len(self._objects))]

    def take_for_delete(self) -> StoredObject | None:
        """Remove and return one of the newer half that no request in flight asks for."""
        half = len(self._objects) // 2
        for _ in range(8):
            if len(self._objects) - half < 1:
                return None
            i = self._source.randrange(half, len(self._objects))
            if not self._objects[i].users:
                return self._objects.pop(i)
        return None

    def forget(self, stored: StoredObject) -> None:
        """The service says it has no such object: ask for it no more."""
        if len(self._objects) > KEEP_AT_LEAST and stored in self._objects:
            self._objects.remove(stored)
