"""How the load balancer shares its requests while a new version is tried.

Every cluster tries versions by itself: its Rollout sends some percentage of the cluster's
share to the new version's pods, and the share of the other clusters stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Address = tuple[str, int]
#: What all stable pods of a cluster have together, for each of them.
_UNIT = 1000


@dataclass(frozen=True)
class Split:
    """One cluster's ready gateway pods: of the stable version, and of the one tried at
    ``percent`` of the cluster's requests."""

    stable: tuple[Address, ...]
    canary: tuple[Address, ...]
    percent: int


def weights(splits: Iterable[Split]) -> dict[Address, int]:
    """Address → weight, of every pod that is to be sent requests.

    All weights are the same where no version is tried.
    """
    found: dict[Address, int] = {}
    for split in splits:
        tried = tuple(a for a in split.canary if a not in split.stable)
        share = min(100, max(0, split.percent)) if tried else 0
        if not split.stable:
            share = 100 if share else 0
        total = _UNIT * (len(split.stable) or len(tried))
        for pods, percent in ((split.stable, 100 - share), (tried, share)):
            for address in pods if percent else ():
                found[address] = max(1, round(total * percent / 100 / len(pods)))
    return found
