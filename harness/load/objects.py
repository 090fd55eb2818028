"""The objects a generator has stored and may ask for again.

An object is known once its upload was acknowledged, and forgotten when it is deleted or
when the service says it has no such object (a client that got 404 does not go on asking;
whether the object was lost is decided by read-back, from the ledger).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.load.content import zipf_rank

#: A service that answers 404 to everything must not end the traffic.
KEEP_AT_LEAST = 20
#: Objects known to one process; one more takes the place of one of the newer half.
KEEP_AT_MOST = 50_000
#: Share of the reads by which a user who has seen something looks at it again.
REVISIT = 0.3


@dataclass(eq=False, slots=True)
class StoredObject:
    """An acknowledged object. ``users`` counts requests in flight that ask for it; ``place``
    is where it is among the known ones, -1 when it is not."""

    object_id: str
    sha256: str
    size_bytes: int
    etag: str = ""
    users: int = 0
    place: int = -1


class KnownObjects:
    """Objects by popularity: at first in the order they were stored, the oldest the most
    popular. Where one goes away the newest takes its place, so that nothing is searched for.

    ``hot_share`` of what is asked for are the first ``hot_objects``, whatever their popularity.
    """

    def __init__(
        self,
        source: random.Random,
        *,
        hot_share: float = 0.0,
        hot_objects: int = 1,
        at_most: int = KEEP_AT_MOST,
    ) -> None:
        self._source = source
        self._hot_share = hot_share
        self._hot_objects = hot_objects
        self._at_most = at_most
        self._objects: list[StoredObject] = []
        self._by_id: dict[str, StoredObject] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def add(self, stored: StoredObject) -> None:
        objects = self._objects
        if len(objects) < self._at_most:
            stored.place = len(objects)
            objects.append(stored)
        else:
            place = self._source.randrange(len(objects) // 2, len(objects))
            was = objects[place]
            was.place, stored.place = -1, place
            del self._by_id[was.object_id]
            objects[place] = stored
        self._by_id[stored.object_id] = stored

    def get(self, object_id: str) -> StoredObject | None:
        """The object of this id, if it is known."""
        return self._by_id.get(object_id)

    def popular(self) -> StoredObject | None:
        """One object, drawn by popularity; None when there is none."""
        return self.choose(())[0]

    def choose(self, remembered: Sequence[StoredObject]) -> tuple[StoredObject | None, bool]:
        """What a user asks for who remembers these, the latest first; whether it is one of them.

        A hot one, else one that is remembered (:data:`REVISIT`; the latest most likely), else
        one drawn by popularity; None when nothing is stored.
        """
        # Always as many draws, so that the same seed goes on with the same.
        draw = self._source.random
        hot, again, u = draw() < self._hot_share, draw() < REVISIT, draw()
        objects = self._objects
        n = len(objects)
        if not n:
            return None, False
        if hot:
            return objects[int(u * min(n, self._hot_objects))], False
        if again and remembered:
            found = remembered[zipf_rank(u, len(remembered))]
            if found.place >= 0:  # else it has been deleted since
                return found, True
        return objects[zipf_rank(u, n)], False

    def take_for_delete(self) -> StoredObject | None:
        """Remove and return one of the newer half that no request in flight asks for."""
        half = len(self._objects) // 2
        for _ in range(8):
            if len(self._objects) - half < 1:
                return None
            i = self._source.randrange(half, len(self._objects))
            stored = self._objects[i]
            if not stored.users:
                self._remove(stored)
                return stored
        return None

    def forget(self, stored: StoredObject) -> None:
        """The service says it has no such object: ask for it no more."""
        if len(self._objects) > KEEP_AT_LEAST and stored.place >= 0:
            self._remove(stored)

    def _remove(self, stored: StoredObject) -> None:
        newest = self._objects.pop()
        if newest is not stored:
            self._objects[stored.place] = newest
            newest.place = stored.place
        stored.place = -1
        del self._by_id[stored.object_id]
