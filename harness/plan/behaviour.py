"""How the users behind the arrivals behave: sessions, thinking, crowds, what is checked.

When arrivals are due and what share of them each operation has is said elsewhere (rate and
mix); nothing here changes either. ``docs/traffic.md`` says where each shape comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Behaviour:
    """Shares are fractions (``0.2``), times are seconds. Raises ValueError, naming the key."""

    #: steps a user takes in a session, on average
    steps: float = 10.0
    #: from one step of a user to the next, on average
    think_s: float = 7.0
    #: share of the reads that go to a few objects, on top of what popularity gives them
    hot_share: float = 0.0
    #: how many objects that is, over all generator processes
    hot_objects: int = 3
    #: share of the downloads and images whose bytes are compared with what was stored
    verify: float = 1.0
    #: share of the larger files that are uploaded in parts
    resumed: float = 0.5
    #: share of the parts that are cut off on their way
    interrupted: float = 0.1

    def __post_init__(self) -> None:
        _between("steps", self.steps, 1.0, 1e6)
        _between("think_s", self.think_s, 0.001, 86_400.0)
        _between("hot_objects", self.hot_objects, 1, 1_000_000)
        for name in ("hot_share", "resumed"):
            _between(name, getattr(self, name), 0.0, 1.0)
        # Of content of which no byte is looked at nothing can be said.
        _between("verify", self.verify, 0.0001, 1.0)
        # With more, hardly an upload would come to its end.
        _between("interrupted", self.interrupted, 0.0, 0.9)

    def changed(self, given: Mapping[str, Any]) -> Behaviour:
        """This, but for what is ``given`` by field. Raises ValueError."""
        unknown = sorted(set(given) - set(FIELDS))
        if unknown:
            raise ValueError(f"no such behaviour: {', '.join(unknown)}; known: {', '.join(FIELDS)}")
        return dataclasses.replace(self, **given)


FIELDS = tuple(field.name for field in dataclasses.fields(Behaviour))


def _between(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r} is no {name}; it is a number from {low:g} to {high:g}")
