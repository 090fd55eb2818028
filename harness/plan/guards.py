"""Stop conditions: what ends a run at once and has its faults undone.

``stop_when:`` of a plan is a list; each entry is one of

========================  ====================================================================
``prometheus: EXPR``      with ``above:`` or ``below:`` a number or a percentage: any series of
                          the PromQL expression is beyond that bound
``alarm: NAME``           the CloudWatch alarm (of ``region:``) is in ALARM
``probe: NAME``           with ``of: FAULT``: the probe of that fault's experiment is out of its
                          tolerance
``file: PATH``            the file is there (a kill switch)
``parameter: NAME``       the SSM parameter (of ``region:``) holds anything but ``run``
``safety_lever: REGION``  the safety lever of AWS FIS in that region is not disengaged
========================  ====================================================================

A condition of which nothing was heard for ``no_data:`` (by default 5 s) stops the run too.

``start_when:`` is a list of ``prometheus:`` entries alone, each of whose series must be beyond
its bound before a run begins (a replication lag *below* 5, an error budget left *above* 20 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from harness.plan.quantities import fraction

GuardKind: TypeAlias = Literal["prometheus", "alarm", "probe", "file", "parameter", "safety_lever"]
GUARD_KINDS: tuple[GuardKind, ...] = get_args(GuardKind)
#: Keys that an entry of each kind may have beside its own and ``no_data``.
GUARD_KEYS: dict[GuardKind, tuple[str, ...]] = {
    "prometheus": ("above", "below"),
    "alarm": ("region",),
    "probe": ("of",),
    "file": (),
    "parameter": ("region",),
    "safety_lever": (),
}
#: How long nothing may be heard of a condition, where the plan does not say.
NO_DATA_S = 5.0
#: Shorter than this a single slow answer would stop a run.
NO_DATA_MIN_S = 2.0
#: What an SSM parameter holds while runs may go on.
MAY_RUN = "run"


@dataclass(frozen=True)
class Guard:
    """One stop condition. ``subject`` is what stands after its kind.

    ``above`` and ``below`` bound a PromQL expression; ``region`` is of an alarm or a parameter
    (empty: the primary), ``fault`` that whose experiment has the probe. ``line`` is its place in
    the plan, 0 for one that every run has.
    """

    kind: GuardKind
    subject: str
    line: int
    above: float | None = None
    below: float | None = None
    region: str = ""
    fault: str = ""
    no_data_s: float = NO_DATA_S

    @property
    def text(self) -> str:
        """For people, in one line."""
        kind, subject = self.kind.replace("_", " "), " ".join(self.subject.split())
        if self.kind == "prometheus":
            return f"{subject} {self.bound}"
        if self.kind == "probe":
            return f"probe {subject!r} of {self.fault}"
        if self.kind == "safety_lever":
            return f"{kind} of {subject} engaged"
        where = f" in {self.region}" if self.region else ""
        return f"{kind} {subject}{where}"

    @property
    def bound(self) -> str:
        """``above 0.6``; empty where there is none."""
        for word, value in (("above", self.above), ("below", self.below)):
            if value is not None:
                return f"{word} {value:g}"
        return ""

    def breached_by(self, value: float) -> bool:
        """Whether a value of the expression is beyond the bound."""
        beyond = self.above is not None and value > self.above
        return beyond or (self.below is not None and value < self.below)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; what is not said is left out."""
        unused = {"above": None, "below": None, "region": "", "fault": ""}
        return {k: v for k, v in vars(self).items() if k not in unused or v != unused[k]}


def bound_of(value: object) -> float:
    """``0.6``, ``12`` or ``60 %`` (0.6). Raises ValueError."""
    if isinstance(value, str):
        return fraction(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a bound; write a number, or a percentage such as 60 %")
    return float(value)
