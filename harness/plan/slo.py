"""A service level objective as a value, written in words or read from somebody's file.

``99.9 %`` is a share of arrivals that succeed; ``99 % within 300ms`` one that succeed so fast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.plan.quantities import duration_s, fraction

_WORDS = re.compile(r"(?P<percent>[\d.]+ ?%)(?: within (?P<duration>\S+))?")


@dataclass(frozen=True)
class Slo:
    """At least ``target`` of the arrivals succeed (within ``within_s``, if it is above zero).

    ``period_s`` is the time its error budget is for, None where that is not said; of the
    ``operations`` named, or of all. ``source`` says for people where it was read.
    """

    target: float
    within_s: float = 0.0
    period_s: float | None = None
    operations: tuple[str, ...] = ()
    name: str = ""
    source: str = ""

    @property
    def words(self) -> str:
        """``99.9 %`` or ``99 % within 300ms``."""
        within = f" within {self.within_s * 1e3:g}ms" if self.within_s else ""
        return f"{self.target * 100:g} %{within}"


def parse_slo(text: object) -> Slo:
    """The SLO in words. Raises ValueError with what was expected instead."""
    match = _WORDS.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"{text!r} is not an SLO; write 99.9 %, or 99 % within 300ms, or name a file.yaml"
        )
    within = match["duration"]
    return Slo(target_of(fraction(match["percent"])), duration_s(within) if within else 0.0)


def target_of(share: float) -> float:
    """``share`` if it leaves an error budget. Raises ValueError otherwise."""
    if not 0 < share < 1:
        raise ValueError(
            f"{share * 100:g} % leaves no error budget to spend; an SLO lies between 0 and 100 %"
        )
    return share
