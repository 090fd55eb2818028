"""The moments of a failover as the traffic saw them.

Counts per second say *how much* came back; they do not say *when* the other region
first answered. These marks do: they are written the moment a response shows it.
"""

from __future__ import annotations

from harness.evidence.model import EDGE
from harness.load.tally import Pen

#: A region is back, rather than merely between two requests, after this long without.
QUIET_S = 1.0
#: A zone has left the set of zones that serve after this long and this many successes
#: served by others without one of its own.
ZONE_QUIET_S = 2.0
ZONE_QUIET_SUCCESSES = 30


class Marks:
    """Watches who served the successes and writes what changed to the history.

    ``mark.region``: first success of a region after ≥ 1 s without one, when the one
    before came from another (``from`` is empty at the start). ``mark.first_write``: first
    acknowledged upload of a region after ≥ 1 s without one. ``mark.zones``: the set of
    zones that serve changed (``from``, ``to``: sorted lists).
    """

    def __init__(self, pen: Pen) -> None:
        self._pen = pen
        self._current = ""
        self._success_t: dict[str, float] = {}
        self._write_t: dict[str, float] = {}
        self._zones: dict[str, tuple[float, int]] = {}
        self._serving: tuple[str, ...] = ()
        self._successes = 0

    def success(self, t: float, op: str, region: str, zone: str, *, is_write: bool) -> None:
        """A success seen at wall instant ``t``, served by ``region`` and ``zone``."""
        if not region or region == EDGE:
            return  # a cache answers wherever the service may be
        if region != self._current:
            # Two regions that answer in turns are one state, not a change per request.
            if t - self._success_t.get(region, float("-inf")) >= QUIET_S:
                self._pen.write("mark.region", t=t, **{"from": self._current}, to=region, op=op)
            self._current = region
        self._success_t[region] = t
        if is_write:
            if t - self._write_t.get(region, float("-inf")) >= QUIET_S:
                self._pen.write("mark.first_write", t=t, region=region, op=op)
            self._write_t[region] = t
        self._zone(t, zone)

    def close(self) -> None:
        """Close the source: a history without its end was cut short."""
        self._pen.close()

    def _zone(self, t: float, zone: str) -> None:
        if not zone:
            return
        self._successes += 1
        self._zones[zone] = (t, self._successes)
        serving = tuple(sorted(z for z, seen in self._zones.items() if not self._gone(t, *seen)))
        if serving != self._serving:
            self._pen.write("mark.zones", t=t, **{"from": list(self._serving)}, to=list(serving))
            self._serving = serving

    def _gone(self, t: float, last_t: float, last_success: int) -> bool:
        return t - last_t >= ZONE_QUIET_S and self._successes - last_success >= ZONE_QUIET_SUCCESSES
