"""Reading what Route 53's health checkers say, as Route 53 itself does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Unhealthy when no more than this share of checkers sees it healthy (Route 53 guide).
UNHEALTHY_SHARE = 0.18


def health(observations: Sequence[dict[str, Any]]) -> tuple[str, float]:
    """``("healthy" | "unhealthy", share of checkers that see it healthy)``.

    Raises ValueError when no checker said anything.
    """
    if not observations:
        raise ValueError("no health checker has reported")
    healthy = sum(
        str(o.get("StatusReport", {}).get("Status", "")).startswith("Success") for o in observations
    )
    share = healthy / len(observations)
    return ("healthy" if share > UNHEALTHY_SHARE else "unhealthy"), share
