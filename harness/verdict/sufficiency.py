"""Judged before anything else: is there enough evidence to judge by?

A source that is missing, a number left out of a sequence, traffic that was not sent as
planned, too few samples: each makes the run unknown, whatever the figures say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.evidence import histogram
from harness.evidence.deliveries import SOURCE, STARTED
from harness.evidence.model import Gap, WorkerTally
from harness.verdict.case import BEAT_SILENCE_S, Case
from harness.verdict.clocks import step_gaps, worker_gaps
from harness.verdict.model import Finding, Measured, Outcome

MIN_ARRIVALS = 100
MIN_SENT = 0.95
#: Five standard deviations of a Poisson count: one run in three million strays further.
_SIGMAS = 5.0
LATE_S = 0.05
#: Above this share of late sends a failing latency may be the generator's own.
LATE_SHARE = 0.01
#: Above this one the traffic was not what was planned.
LATE_SHARE_MAX = 0.05
#: Of so many of its sends a generator may leave out how late they were.
UNTOLD_MAX = 0.01
#: A phase may be this much shorter than planned (its clock ticks, its boundaries).
_SHORTER = 0.9


def all_gaps(case: Case) -> tuple[Gap, ...]:
    """Gaps found when reading, and sources the run declared that are not there."""
    return (
        *case.evidence.gaps,
        *_conductor_gaps(case),
        *_fault_gaps(case),
        *_load_gaps(case),
        *_observer_gaps(case),
        *step_gaps(case),
        *_readback_gaps(case),
        *_receiver_gaps(case),
        *_guard_gaps(case),
    )


def judge_evidence(gaps: tuple[Gap, ...]) -> Finding:
    """The finding "evidence complete"."""
    shown = "; ".join(f"{gap.source}: {gap.detail}" for gap in gaps[:5])
    more = f"; and {len(gaps) - 5} more" if len(gaps) > 5 else ""
    return Finding(
        objective="evidence complete",
        phase="all",
        outcome=Outcome.UNKNOWN if gaps else Outcome.PASS,
        measured=Measured(len(gaps), len(gaps), len(gaps), "gaps"),
        required="every source present, numbered without a hole and closed",
        because=f"{shown}{more}" if gaps else "no gap in any source",
        evidence=tuple(sorted({gap.source for gap in gaps})),
    )


def _conductor_gaps(case: Case) -> Iterable[Gap]:
    kinds = [event.kind for event in case.evidence.events if event.source == "conductor"]
    for kind in ("run.start", "run.end"):
        if kinds.count(kind) != 1:
            yield Gap("conductor", kind, None, f"{kinds.count(kind)} {kind} instead of one")
    ran = [span.name for span in case.evidence.phases]
    for phase in case.plan.phases:
        if ran.count(phase.name) != 1:
            detail = f"phase {phase.name} ran {ran.count(phase.name)} times"
            yield Gap("conductor", "phase", phase.name, detail)
    for name in ran:
        if name not in [phase.name for phase in case.plan.phases]:
            yield Gap("conductor", "phase", name, f"phase {name} is not in the plan")


def _fault_gaps(case: Case) -> Iterable[Gap]:
    for fault in case.plan.faults:
        phase = f"fault:{fault.name}"
        for kind in ("experiment.start", "experiment.end"):
            found = [e for e in case.evidence.of_kind(kind) if e.text("fault") == fault.name]
            if not found:
                yield Gap(f"chaos/{fault.name}", kind, phase, f"no {kind} of {fault.name}")
        if not case.actions(fault.name):
            yield Gap(f"chaos/{fault.name}", "fault.start", phase, f"no record of {fault.name}")
        for action in case.actions(fault.name):
            instants = [t for t in (action.undo_start_t, action.undo_done_t) if t is not None]
            if action.undo and (len(instants) < 2 or not case.is_of_this_run(*instants)):
                detail = f"no whole record of the undo of {action.action}"
                yield Gap(f"chaos/{fault.name}", "undo", phase, detail)


def _guard_gaps(case: Case) -> Iterable[Gap]:
    """A plan with stop conditions was held to them only if somebody watched to the end."""
    ends = case.evidence.of_kind("run.end")
    for trip in case.evidence.of_kind("guard.trip"):
        if not ends or not ends[-1].text("stopped"):
            detail = f"{trip.text('condition')} tripped, and the run was not stopped"
            yield Gap("guards", "guard.trip", None, detail)
    if not case.plan.guards:
        return
    for kind in ("guard.start", "guard.armed", "guard.end"):
        if not case.evidence.of_kind(kind):
            yield Gap("guards", kind, None, f"no {kind}: the stop conditions were not watched")


def _load_gaps(case: Case) -> Iterable[Gap]:
    starts, ends = case.evidence.of_kind("load.start"), case.evidence.of_kind("load.end")
    if not starts or not ends:
        what = "load.start" if not starts else "load.end"
        yield Gap("load", what, None, f"no {what}: the load driver did not say")
    tallied = {tally.worker for tally in case.evidence.tallies}
    declared = starts[0].data.get("workers") if starts else None
    names = {str(w) for w in declared} if isinstance(declared, list) else set()
    number = len(names) if names else declared if isinstance(declared, int) else 1
    for name in sorted(names - tallied):
        yield Gap(f"load/{name}", "file", None, f"no tallies of worker {name}")
    present = {event.source for event in case.evidence.events}
    for name in sorted(tallied):
        if f"load/{name}" not in present:
            yield Gap(f"load/{name}", "source", None, f"no mark of worker {name}")
    if len(tallied) < int(number):
        yield Gap("load", "file", None, f"tallies of {len(tallied)} of {number} workers")
    ended = ends[0].data.get("workers_ended") if ends else None
    finished = len(ended) if isinstance(ended, list) else ended
    if isinstance(finished, int) and finished < int(number):
        yield Gap("load", "end", None, f"{finished} of {number} workers ended by themselves")
    yield from _fleet_gaps(case)
    yield from worker_gaps(case)
    yield from _tally_sums(case)


def _fleet_gaps(case: Case) -> Iterable[Gap]:
    """What the master of several generators said of them.

    One that left in order has no gap: it accounted for all it took up, and what it did not send
    is counted as not sent.
    """
    for event in case.evidence.of_kind("worker.lost"):
        worker = event.text("worker")
        detail = (
            f"worker {worker} was lost ({event.text('why')}): what it sent last is not known, "
            "the rest of its share was not sent"
        )
        yield Gap(f"load/{worker}", "lost", None, detail)
    for event in case.evidence.of_kind("worker.failed", "worker.returned"):
        worker = event.text("worker")
        detail = f"worker {worker}: {event.kind.removeprefix('worker.')} {event.text('why')}"
        yield Gap(f"load/{worker}", event.kind, None, detail.strip())


def _tally_sums(case: Case) -> Iterable[Gap]:
    for tally in case.evidence.tallies:
        if tally.end is None:
            continue
        planned = sum(second.planned for second in tally.seconds)
        if tally.end.get("planned") != planned:
            detail = f"says {tally.end.get('planned')} planned, its seconds add up to {planned}"
            yield Gap(f"load/{tally.worker}", "sum", None, detail)
        done = sum(cell.n for second in tally.seconds for cell in second.cells)
        in_flight = tally.end.get("in_flight", 0)
        if done + (in_flight if isinstance(in_flight, int) else 0) != planned:
            detail = f"{planned} planned, {done} accounted for, {in_flight} in flight at the end"
            yield Gap(f"load/{tally.worker}", "sum", None, detail)


def _observer_gaps(case: Case) -> Iterable[Gap]:
    declared = case.observers
    started = {event.source for event in case.evidence.of_kind("watch.start")}
    if not declared | started:
        yield Gap("watch", "observers", None, "no observer was declared")
    present = {event.source for event in case.evidence.events}
    spans = case.evidence.phases
    for event in case.evidence.of_kind("watch.start"):
        subjects = event.data.get("subjects")
        for subject in subjects if isinstance(subjects, list) else ():
            if not case.evidence.seen(str(subject)):
                yield Gap(event.source, "sighting", None, f"{subject}: never seen")
    for source in sorted(declared | started):
        if source not in present:
            yield Gap(source, "source", None, "declared, and nothing of it recorded")
        elif source not in started:
            yield Gap(source, "watch.start", None, "what it was to watch is not recorded")
        elif spans and spans[-1].end_t is not None:
            quiet = case.silence(source, spans[0].start_t, spans[-1].end_t)
            if quiet:
                yield Gap(source, "watch.beat", None, f"{quiet} (limit {BEAT_SILENCE_S:g} s)")


def _readback_gaps(case: Case) -> Iterable[Gap]:
    """Phases in which uploads were to be read back and were not, or not all answers are there."""
    passes = {found.phase: found for found in case.evidence.passes}
    for event in case.evidence.of_kind("run.start"):
        names = event.data.get("readbacks")
        for phase in names if isinstance(names, list) else ():
            if str(phase) not in passes:
                detail = f"no upload was read back during {phase}"
                yield Gap(f"readback/{phase}", "pass", str(phase), detail)
    for phase, found in passes.items():
        told = sum(readback.phase == phase for readback in case.evidence.readbacks)
        if told != found.asked:
            detail = f"{found.asked} uploads asked for during {phase}, {told} answers"
            yield Gap(f"readback/{phase}", "sum", phase, detail)


def _receiver_gaps(case: Case) -> Iterable[Gap]:
    """Receivers of alerts that were to listen, and of which nothing is recorded."""
    started = {event.source for event in case.evidence.of_kind(STARTED)}
    for event in case.evidence.of_kind("run.start"):
        for name in event.data.get("receivers") or ():
            if SOURCE + str(name) not in started:
                detail = f"receiver {name} was to listen, and nothing of it is recorded"
                yield Gap(SOURCE + str(name), "source", None, detail)


def judge_rate(case: Case, phase: str) -> Finding:
    """The finding "planned rate sent" of one phase."""
    counts, schedule = case.counts(phase), case.planned_between(phase)
    # An even schedule may differ by one arrival at each end, for each worker.
    spread = max(2.0 * len(case.evidence.tallies), case.recorded_at_edges(phase))
    if case.plan.traffic.arrivals == "poisson":
        spread = max(spread, _SIGMAS * math.sqrt(schedule))
    sent = counts.sent / counts.planned if counts.planned else 0.0
    problem = _rate_problem(case, phase, schedule, spread)
    return Finding(
        objective="planned rate sent",
        phase=phase,
        outcome=Outcome.UNKNOWN if problem else Outcome.PASS,
        measured=Measured(sent, sent, sent, "of planned"),
        required=f"≥ {MIN_SENT:.0%} of the schedule sent, ≥ {MIN_ARRIVALS} arrivals, none lost",
        because=problem
        or f"{counts.planned} planned (schedule {schedule:.0f}), {counts.sent} sent",
        evidence=("tallies/",),
    )


def _rate_problem(case: Case, phase: str, schedule: float, spread: float) -> str:
    counts = case.counts(phase)
    length = next(p.duration_s for p in case.plan.phases if p.name == phase)
    if len(case.seconds(phase)) < length * _SHORTER - 2:
        return f"the phase lasted {len(case.seconds(phase))} s of {length:g} s planned"
    if counts.planned < MIN_ARRIVALS:
        return f"too few arrivals to judge: {counts.planned} (generator stopped?)"
    if abs(counts.planned - schedule) > spread:
        return (
            f"{counts.planned} arrivals planned where the schedule says {schedule:.0f}"
            f" ± {spread:.0f}: the generator was stopped or slowed"
        )
    if counts.sent < MIN_SENT * counts.planned:
        reasons = counts.by(lambda cell: cell.error or "no reason", "not_sent")
        why = ", ".join(f"{reason} × {n}" for reason, n in list(reasons.items())[:3])
        return f"only {counts.sent} of {counts.planned} planned arrivals were sent ({why})"
    if counts.accounted > counts.planned:
        return f"{counts.accounted} outcomes of {counts.planned} arrivals"
    return ""


def late_share(case: Case, seconds: range) -> float:
    """Share of the sends reported in ``seconds`` that were over 50 ms late (at most)."""
    reports = [
        lateness.late
        for tally in case.evidence.tallies
        for lateness in tally.lateness
        if seconds and seconds.start <= lateness.t <= seconds.stop + 1
    ]
    on_time = histogram.fraction_below(histogram.merge(reports), LATE_S * 1e6)
    return 1.0 - on_time.low if on_time else 0.0


def _untold(tally: WorkerTally) -> tuple[int, int]:
    """How many requests this generator sent, and of how many of them it never said how late."""
    sent = sum(
        cell.n for second in tally.seconds for cell in second.cells if cell.outcome != "not_sent"
    )
    told = sum(histogram.count(report.late) for report in tally.lateness)
    return sent, max(0, sent - told)


def judge_generator(case: Case) -> Finding:
    """The finding "generator healthy", over the whole run."""
    tallies = case.evidence.tallies
    merged = histogram.merge(late.late for tally in tallies for late in tally.lateness)
    on_time = histogram.fraction_below(merged, LATE_S * 1e6)
    share = 1.0 - on_time.low if on_time else None
    untold = {tally.worker: _untold(tally) for tally in tallies}
    silent = [worker for worker, (sent, missing) in untold.items() if missing > UNTOLD_MAX * sent]
    if share is None:
        outcome, because = Outcome.UNKNOWN, "no lateness was recorded"
    elif silent:
        sent, missing = untold[silent[0]]
        outcome = Outcome.UNKNOWN
        because = f"no lateness was recorded of {missing} of {sent} sends of worker {silent[0]}"
    elif share > LATE_SHARE_MAX:
        outcome, because = Outcome.UNKNOWN, f"{share:.1%} of the sends were over 50 ms late"
    else:
        outcome, because = Outcome.PASS, f"{share:.2%} of the sends were over 50 ms late"
        if share > LATE_SHARE:
            because += "; latencies include the delay, so one that fails is not held against anyone"
    return Finding(
        objective="generator healthy",
        phase="all",
        outcome=outcome,
        measured=None if share is None else Measured(share, share, share, "of sends late"),
        required=f"at most {LATE_SHARE_MAX:.0%} sent over 50 ms after their planned instant",
        because=because,
        evidence=("tallies/ lateness",),
    )
