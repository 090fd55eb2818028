"""What is due of recorded traffic, and when: pure, and the same for sender and judge."""

from __future__ import annotations

import bisect
import itertools
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


class Records:
    """The requests of a recording in the order they are due.

    ``offsets_s[i]`` is when the i-th is due, from the start, at the recorded speed; after
    ``period_s`` the recording may begin anew. ``what[i]`` is the number of its request:
    ``methods[what]`` and ``targets[what]``, each different request once.
    """

    def __init__(self) -> None:
        self.offsets_s = array("d")
        self.what = array("I")
        self.statuses = array("H")
        self.sizes = array("Q")
        self.methods: list[str] = []
        self.targets: list[bytes] = []
        self.period_s = 0.0
        self.format = ""
        self.out_of_order = 0
        #: why lines are not replayed → how many
        self.skipped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.offsets_s)

    def due_by(self, t_s: float, speed: float) -> int:
        """Requests due before ``t_s`` seconds, replayed again and again at ``speed``."""
        cycles, rest_s = divmod(t_s * speed, self.period_s)
        return int(cycles) * len(self) + bisect.bisect_left(self.offsets_s, rest_s)

    def instants_s(
        self, speed: float, worker: int = 0, workers: int = 1, *, loop: bool = False
    ) -> Iterator[float]:
        """When process ``worker`` of ``workers`` sends: the requests worker, worker + workers, …"""
        offsets_s, count = self.offsets_s, len(self)
        for number in itertools.count(worker, workers):
            cycle, index = divmod(number, count)
            if cycle and not loop:
                return
            yield (cycle * self.period_s + offsets_s[index]) / speed

    def per_second(self, speed: float, horizon_s: float) -> tuple[int, ...]:
        """Requests due in each second of a replay, up to ``horizon_s``."""
        sums = [self.due_by(t, speed) for t in range(math.ceil(horizon_s) + 1)]
        return tuple(b - a for a, b in itertools.pairwise(sums))


@dataclass(frozen=True)
class Recording:
    """What a plan says of the recorded traffic that is replayed.

    ``speed``: 2.0 is twice as fast. ``per_second``: requests planned in each second from the
    start of the traffic, as far as the plan may last; with it the judge needs no file.
    ``recorded_s``: how long the recording is at its own speed; it is replayed again and again.
    """

    file: str
    sha256: str
    format: str
    speed: float
    methods: tuple[str, ...]
    records: int
    recorded_s: float
    out_of_order: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    per_second: tuple[int, ...] = ()

    is_constant = False

    @cached_property
    def _sums(self) -> list[int]:
        return [0, *itertools.accumulate(self.per_second)]

    @property
    def peak(self) -> float:
        """Requests in the fullest second."""
        return float(max(self.per_second, default=0))

    def arrivals_by(self, t_s: float) -> float:
        """Requests due by ``t_s``, evenly within a second. Raises ValueError beyond the end."""
        if t_s <= 0:
            return 0.0
        second = int(t_s)
        if t_s > len(self.per_second):
            raise ValueError(f"the plan knows what is due up to {len(self.per_second)} s only")
        if second == len(self.per_second):
            return float(self._sums[-1])
        return self._sums[second] + (t_s - second) * self.per_second[second]

    def off_by(self, t_s: float) -> float:
        """How far :meth:`arrivals_by` may be off: it does not know when within a second."""
        within = t_s % 1.0
        if not within or not 0 < t_s < len(self.per_second):
            return 0.0
        return max(within, 1.0 - within) * self.per_second[int(t_s)]

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"{self.records} requests of {self.file}, recorded in {self.recorded_s:.0f} s, "
            f"at {self.speed:g}x"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; the counts on one line."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        counts = " ".join(map(str, self.per_second))
        return {**own, "methods": list(self.methods), "skipped": dict(self.skipped),
                "per_second": counts}  # fmt: skip

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Recording:
        """Inverse of :meth:`to_json`; raises TypeError or ValueError for anything else."""
        counts = tuple(map(int, document["per_second"].split()))
        methods = tuple(document["methods"])
        return cls(**{**document, "methods": methods, "per_second": counts})
