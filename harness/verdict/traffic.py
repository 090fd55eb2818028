"""Availability, error rate, latency, throughput and content, per phase.

All from the client's own counts of planned arrivals. An arrival of which nothing is
recorded may have gone either way, so every figure is an interval and is judged as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.plan.model import Availability, ErrorRate, Latency, Throughput
from harness.verdict.case import Case, number_of
from harness.verdict.counts import Counts, Share
from harness.verdict.model import Finding, Measured, Outcome, judge_interval
from harness.verdict.sufficiency import LATE_SHARE, late_share

#: Errors by which the load client says that a body was not what was stored.
CONTENT_ERRORS = frozenset(
    {
        "checksum",
        "content-range",
        "content-type",
        "error-body",
        "not-a-picture",
        "not-json",
        "wrong-length",
        "wrong-picture",
        "wrong-width",
    }
)
_TALLIES = ("tallies/",)


def judge_availability(case: Case, objective: Availability, phase: str) -> Finding:
    """Successes among planned arrivals."""
    asked = case.counts(phase).of(objective.operations)
    counts = asked.with_degraded(objective.degraded)
    less = f", {asked.degraded} of them degraded" if asked.degraded != counts.degraded else ""
    share = counts.availability()
    return _finding(
        objective.text,
        phase,
        share,
        Outcome.UNKNOWN if share is None else judge_interval(objective.at_least, *share),
        f"≥ {objective.at_least:.4%}",
        f"{counts.ok} of {counts.planned} planned arrivals succeeded{less}{_why(counts)}",
    )


def judge_error_rate(case: Case, objective: ErrorRate, phase: str) -> Finding:
    """Failed and unsure among the arrivals sent."""
    counts = case.counts(phase).of(objective.operations)
    share = counts.error_rate()
    if share is None:
        outcome = Outcome.UNKNOWN
    elif share.high < objective.below:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.FAIL if share.low >= objective.below else Outcome.UNKNOWN
    because = (
        f"{counts.failed} failed and {counts.unsure} unsure of {counts.sent} sent{_why(counts)}"
    )
    return _finding(objective.text, phase, share, outcome, f"< {objective.below:.4%}", because)


def judge_latency(case: Case, objective: Latency, phase: str) -> Finding:
    """The fraction of planned arrivals answered well within the threshold; the quantile shown."""
    counts = case.counts(phase).of(objective.operations).with_degraded(objective.degraded)
    share = counts.within(objective.below_s)
    quantile = counts.quantile_s(objective.fraction)
    outcome = Outcome.UNKNOWN if share is None else judge_interval(objective.fraction, *share)
    because = "no arrivals"
    if share is not None:
        because = f"{share.low:.3%} of the arrivals succeeded within {objective.below_s * 1e3:g} ms"
        if share.high > share.low:
            because += f" (at most {share.high:.3%})"
    late = late_share(case, case.seconds(phase))
    if outcome is Outcome.FAIL and late >= LATE_SHARE:
        outcome = Outcome.UNKNOWN
        because += f"; but the generator itself sent {late:.1%} of them over 50 ms late"
    measured = (
        Measured(None, None, None, "s")
        if quantile is None
        else Measured((quantile.low + quantile.high) / 2, quantile.low, quantile.high, "s")
    )
    required = f"p{objective.fraction * 100:g} < {objective.below_s:g} s"
    return Finding(objective.text, phase, outcome, measured, required, because, _TALLIES)


def judge_throughput(case: Case, objective: Throughput, phase: str) -> Finding:
    """Successes per second against arrivals planned per second, or against a rate."""
    counts = case.counts(phase).of(objective.operations)
    seconds = len(case.seconds(phase))
    share = counts.availability()
    outcome = Outcome.UNKNOWN
    measured = None
    because = "no arrivals"
    required = f"≥ {objective.at_least:.2%} of planned"
    if objective.at_least_per_s:
        required = f"≥ {objective.at_least_per_s:g}/s"
    if share is not None and seconds:
        achieved = counts.ok / seconds
        high = (counts.ok + counts.either_way) / seconds
        if objective.at_least_per_s:
            outcome = judge_interval(objective.at_least_per_s, achieved, high)
        else:
            outcome = judge_interval(objective.at_least, *share)
        measured = Measured(achieved, achieved, high, "/s")
        because = f"{achieved:.1f}/s achieved of {counts.planned / seconds:.1f}/s planned"
    return Finding(objective.text, phase, outcome, measured, required, because, _TALLIES)


@dataclass(frozen=True)
class Trial:
    """Seconds in which a version that was then withdrawn served so many requests."""

    seconds: range
    served: float


def judge_content(case: Case, trials: Iterable[Trial] = ()) -> Finding:
    """What was answered with success must be what was stored.

    A bad version that was tried and withdrawn in time is what ``trials`` are for: as many wrong
    answers as it served requests are its own, and judged there.
    """
    counts = case.by_second.over(case.by_second.seconds())
    wrong = _wrong(counts)
    total = sum(wrong.values())
    if total and total == _own(case, trials):
        outcome, because = _content_by_share(case, counts)
        because = f"{total} wrong answers of versions being tried and then withdrawn; {because}"
        return _content(outcome, 0, because)
    if total:
        kinds = ", ".join(f"{error} × {n}" for error, n in wrong.items())
        what = "error bodies" if "error-body" in wrong else "wrong content"
        outcome, because = Outcome.FAIL, f"{what} served with status 200: {kinds}"
    elif counts.ok == 0:
        outcome, because = Outcome.UNKNOWN, "nothing was answered"
    else:
        outcome, because = _content_by_share(case, counts)
    return _content(outcome, total, because)


def _wrong(counts: Counts) -> dict[str, int]:
    """Answers that carried something else than what was stored, by what was wrong."""
    return {error: n for error, n in counts.errors().items() if error in CONTENT_ERRORS}


def _own(case: Case, trials: Iterable[Trial]) -> int:
    """Wrong answers that may have been of versions being tried, each of one of them alone: of
    those tried at once in several places, the one that is withdrawn first."""
    trials = sorted(trials, key=lambda trial: trial.seconds.stop)
    left = [int(trial.served) for trial in trials]
    own = 0
    for second in case.by_second.seconds() if trials else ():
        wrong = sum(_wrong(case.by_second.at(second)).values())
        for index, trial in enumerate(trials):
            if second in trial.seconds:
                taken = min(wrong, left[index])
                wrong, left[index], own = wrong - taken, left[index] - taken, own + taken
    return own


def _content(outcome: Outcome, wrong: int, because: str) -> Finding:
    return Finding(
        objective="content",
        phase="all",
        outcome=outcome,
        measured=Measured(wrong, wrong, wrong, "answers"),
        required="no answer with status 200 and a wrong body",
        because=because,
        evidence=_TALLIES,
    )


def _content_by_share(case: Case, counts: Counts) -> tuple[Outcome, str]:
    """No body was seen to be wrong; how many were looked at, where generators say it."""
    ends = [worker.end for worker in case.evidence.tallies if worker.end is not None]
    bodies = sum(number_of(end, "bodies") or 0 for end in ends)
    verified = sum(number_of(end, "verified") or 0 for end in ends)
    if verified >= bodies:
        return Outcome.PASS, f"{counts.ok} answers carried what was stored"
    how = (
        f"{verified:.0f} of {bodies:.0f} bodies downloaded ({verified / bodies:.1%}) were compared "
        "with what was stored, of the others status, length and headers"
    )
    if not verified:
        return Outcome.UNKNOWN, how
    return Outcome.PASS, f"{counts.ok} answers carried what was stored as far as is known: {how}"


def _finding(
    objective: str, phase: str, share: Share | None, outcome: Outcome, required: str, because: str
) -> Finding:
    measured = None if share is None else Measured(share.low, share.low, share.high, "ratio")
    because = because if share is not None else "no arrivals"
    return Finding(objective, phase, outcome, measured, required, because, _TALLIES)


def _why(counts: Counts) -> str:
    """The commonest errors, and what is not known."""
    found = [f"{error} × {n}" for error, n in list(counts.errors().items())[:3]]
    if counts.degraded:
        found.append(f"degraded × {counts.degraded}")
    text = f" ({', '.join(found)})" if found else ""
    return f"{text}; of {counts.unaccounted} nothing is recorded" if counts.unaccounted else text
