"""A service that is scaled out and back in as it must be, and every way in which it may not be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.evidence.model import Event, TallySecond
from harness.plan.model import Plan, Scaling
from harness.verdict import Finding, Outcome, judge
from harness.verdict.case import Case
from harness.verdict.scaling import (
    Scaled,
    _nothing_shown,
    _scaled_back,
    _scaled_out,
    judge_scaling,
    surge_of,
    taking_part,
    watched_to,
)
from harness.verdict.scaling import Surge as Times
from tests.verdict.build import LAST, T0, A, B, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
SURGE = range(5, 25)
WORDING = "file out within 8s and back in within 10s"
#: Requests per second in a zone, before and in the surge; what one pod is meant for.
BEFORE, DURING, TARGET = 25.0, 50.0, 30.0
ZONES = (A, B)


def asked(wording: str = WORDING, rate: str = "spike 50/s to 100/s at 5s for 20s") -> Plan:
    return plan(
        ("rate: 50/s", f"rate: {rate}"),
        ("objectives:\n", f"objectives:\n  - scaling: {wording}\n"),
    )


class Surge(Day):
    """The day with a surge in its baseline; nothing is scaled yet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for offset in SURGE:
            self.seconds[offset] = _twice(self.seconds[offset])
        for entry in [e for e in self.ledger if e.planned_t - T0 in _within(SURGE)]:
            self.ledger.append(dataclasses.replace(entry, object=f"{entry.object}-2"))
            self.read_back(f"{entry.object}-2", "present")
        planned = sum(second.planned for second in self.seconds.values())
        self.tally_end = {"planned": planned, "sent": planned, "not_sent": 0, "in_flight": 0}
        self.series["gateway_requests"] = self._requests()
        self.declare(*(f"autoscalers-{zone}" for zone in ZONES))

    def declare(self, *observers: str) -> None:
        for name in observers:
            self.say(f"watch/{name}", -1.5, "watch.start", observer=name, period_s=0.5)
            for offset in range(0, LAST + 3, 5):
                self.say(f"watch/{name}", offset, "watch.beat", polls=10, errors=0)
        index = next(i for i, event in enumerate(self.events) if event.kind == "run.start")
        data = self.events[index].data
        data = {**data, "observers": [*data["observers"], *observers]}
        self.events[index] = dataclasses.replace(self.events[index], data=data)

    def hpa(self, zone: str, offset: float, current: int, desired: int, load: float | None,
            **more: Any) -> Surge:  # fmt: skip
        each = None if load is None else load / current
        self.see(f"autoscalers-{zone}", offset, f"hpa:{zone}/file", {
            "scales": "file", "kind": "Deployment", "least": 1, "most": 4, "current": current,
            "desired": desired, "active": load is not None, "why": "", "limited": None,
            "tolerance": 0.1, "metrics": [{"name": "requests", "value": each, "target": TARGET}],
            **more,
        })  # fmt: skip
        return self

    def pods(self, zone: str, offset: float, ready: int, total: int) -> Surge:
        uids = [f"{zone}-{n}" for n in range(total)]
        self.see("pods", offset, f"pods:{zone}/file", {"ready": ready, "total": total,
                                                       "uids": uids})  # fmt: skip
        return self

    def scaled(self, zone: str, *, asks: float = 8.0, ready: float = 10.0, needs: int = 2,
               takes: float = 31.0, gone: float = 31.5) -> Surge:  # fmt: skip
        """Out and back in, at these offsets."""
        self.pods(zone, -1, 1, 1).hpa(zone, -1, 1, 1, BEFORE)
        self.hpa(zone, 7, 1, 1, 40.0)
        if asks < LAST:
            self.hpa(zone, asks, 1, needs, DURING).pods(zone, asks + 0.3, 1, needs)
        else:
            self.hpa(zone, 8, 1, 1, DURING)
        if ready < LAST:
            self.pods(zone, ready, needs, needs).hpa(zone, ready + 0.2, needs, needs, DURING)
        now = needs if ready < LAST else 1
        self.hpa(zone, 27, now, now, BEFORE)
        if takes < LAST:
            self.hpa(zone, takes, now, 1, BEFORE).pods(zone, gone, 1, 1)
            self.hpa(zone, gone + 1, 1, 1, BEFORE)
        return self


def _within(seconds: range) -> set[float]:
    return {second + 0.25 for second in seconds}


def _twice(second: TallySecond) -> TallySecond:
    cells = tuple(
        dataclasses.replace(
            c,
            n=2 * c.n,
            latency={k: 2 * n for k, n in c.latency.items()},
            below={k: 2 * n for k, n in c.below.items()},
        )
        for c in second.cells
    )
    return dataclasses.replace(second, planned=2 * second.planned, cells=cells)


def a_day(**first: Any) -> Surge:
    """Both zones scale as they must, but for what is changed of the first."""
    # The day's own sightings of pods are of a fault later on, of pods of another number.
    day = Surge().without(lambda e: str(e.data.get("subject", "")).startswith("pods:"))
    assert isinstance(day, Surge)
    day.scaled(A, **first)
    day.scaled(B)
    return day


def found(day: Day, kind: str = "scaling:", zone: str = A, given: Plan | None = None) -> Finding:
    verdict = judge(given or asked(), day.evidence())
    mine = [f for f in verdict.findings if f.objective.startswith(kind) and zone in f.because]
    assert len(mine) == 1, [(f.objective, f.because) for f in verdict.findings]
    return mine[0]


def alone(day: Day, given: Plan | None = None) -> Finding:
    """The one finding there is."""
    verdict = judge(given or asked(), day.evidence())
    (mine,) = (f for f in verdict.findings if f.objective.startswith("scaling"))
    return mine


def test_out_and_back_in_time() -> None:
    for zone in ZONES:
        out, back = found(a_day(), zone=zone), found(a_day(), "scaling back", zone)
        assert (out.outcome, back.outcome) == (PASS, PASS)
        assert out.measured is not None and back.measured is not None
        assert (out.measured.low, out.measured.high) == pytest.approx((4.75, 5.0))
        assert (back.measured.low, back.measured.high) == pytest.approx((6.25, 6.5))
        assert "2 pods, of 1 before" in out.because
        assert "asked for more after 3.0 s" in out.because


def test_never_scaled_is_a_failure_and_there_is_nothing_to_take_back() -> None:
    day = a_day(asks=LAST, ready=LAST, takes=LAST)
    out, back = found(day), found(day, "scaling back")
    assert (out.outcome, back.outcome) == (FAIL, UNKNOWN)
    assert "never asked for more" in out.because
    assert "never scaled out" in back.because


def test_pods_that_are_promised_and_never_ready_are_a_failure() -> None:
    out = found(a_day(ready=LAST))
    assert out.outcome is FAIL
    assert "asked for more after 3.0 s, 1 ready at most" in out.because


def test_late_is_a_failure_and_about_the_bound_unknown() -> None:
    assert found(a_day(ready=13.0)).outcome is PASS
    assert found(a_day(ready=13.1)).outcome is UNKNOWN
    assert found(a_day(ready=13.3)).outcome is FAIL
    assert found(a_day(takes=34.0, gone=35.0), "scaling back").outcome is PASS
    assert found(a_day(takes=34.0, gone=35.2), "scaling back").outcome is UNKNOWN
    assert found(a_day(takes=34.0, gone=35.3), "scaling back").outcome is FAIL


def test_fewer_than_the_load_asks_for_are_a_failure() -> None:
    # Four times the load of a pod, and two pods for it: what the autoscaler says itself.
    day = a_day()
    for offset in range(9, 25):
        day.hpa(A, offset + 0.5, 2, 2, 4 * TARGET)
    out = found(day)
    assert out.outcome is FAIL
    assert "needs 4 pods" in out.because and "2 ready at most" in out.because


def test_no_more_than_the_most_there_may_be_is_asked_for() -> None:
    day = a_day()
    for offset in range(9, 25):
        day.hpa(A, offset + 0.5, 2, 2, 9 * TARGET, most=2)
    first = next(e for e in day.events if e.data.get("subject") == f"hpa:{A}/file")
    first.data["value"]["most"] = 2  # type: ignore[index]
    out = found(day)
    assert out.outcome is PASS
    assert "as many as there may be" in out.because


def test_pods_taken_away_before_the_surge_is_over_are_a_failure() -> None:
    day = a_day(takes=20.0, gone=20.5)
    assert found(day).outcome is FAIL
    assert "before it was over" in found(day).because


def test_pods_never_taken_away_are_a_failure() -> None:
    back = found(a_day(takes=LAST), "scaling back")
    assert back.outcome is FAIL
    assert back.measured is not None and back.measured.value is None
    assert "still 2 pods, 1 before" in back.because


def test_pods_that_come_back_count_until_they_are_gone_for_good() -> None:
    day = a_day().pods(A, 33.0, 2, 2).pods(A, 34.9, 1, 1)
    back = found(day, "scaling back")
    assert back.measured is not None
    assert (back.outcome, back.measured.high) == (PASS, pytest.approx(9.9))
    assert found(a_day().pods(A, 33.0, 2, 2), "scaling back").outcome is FAIL


def test_a_surge_that_asked_for_no_more_shows_nothing() -> None:
    day = Surge().without(lambda e: str(e.data.get("subject", "")).startswith("pods:"))
    assert isinstance(day, Surge)
    for zone in ZONES:
        day.scaled(zone, asks=LAST, ready=LAST, takes=LAST)
        day.without(lambda e: str(e.data.get("subject")).startswith("hpa:") and e.t > T0 + 6)
    out = found(day)
    assert out.outcome is UNKNOWN
    assert "nothing was tried" in out.because


def test_an_autoscaler_that_lies_about_its_load_makes_no_pass() -> None:
    """One zone scales as it must; the other answered as much and says that it is idle."""
    day = a_day(asks=LAST, ready=LAST, takes=LAST)
    day.without(lambda e: e.data.get("subject") == f"hpa:{A}/file" and e.t > T0)
    assert found(day).outcome is UNKNOWN
    assert judge(asked(), day.evidence()).outcome is UNKNOWN


def test_a_surge_that_was_not_sent_shows_nothing() -> None:
    day = a_day()
    for offset in SURGE:
        day.seconds[offset] = Day().seconds[offset]
    assert alone(day).outcome is UNKNOWN
    assert "the surge never came" in alone(day).because


def test_a_run_that_ended_before_the_surge_shows_nothing() -> None:
    later = asked(rate="spike 50/s to 100/s at 90s for 20s")
    day = a_day().without(lambda e: e.t > T0 + 100 and e.kind.startswith("phase"))
    assert "the run ended before" in alone(day, later).because
    assert alone(day, later).outcome is UNKNOWN


def test_generators_that_do_not_say_when_they_began_tell_nothing_of_the_surge() -> None:
    evidence = a_day().evidence()
    tallies = tuple(dataclasses.replace(t, start={"worker": "w0"}) for t in evidence.tallies)
    verdict = judge(asked(), dataclasses.replace(evidence, tallies=tallies))
    (out,) = (f for f in verdict.findings if f.objective.startswith("scaling"))
    assert (out.outcome, "is not known" in out.because) == (UNKNOWN, True)


def test_nobody_watching_is_unknown() -> None:
    def of(event: Event, *stems: str) -> bool:
        return str(event.data.get("subject", "")).startswith(stems)

    day = a_day().without(lambda e: of(e, "hpa:"))
    assert found(day).outcome is UNKNOWN
    day = a_day().without(lambda e: of(e, f"hpa:{A}"))
    assert "no autoscaler of file was seen there" in found(day).because
    assert found(day).outcome is UNKNOWN
    assert found(day, zone=B).outcome is PASS
    day = a_day().without(lambda e: of(e, f"pods:{A}"))
    assert found(day).outcome is UNKNOWN


def test_a_time_in_which_it_could_not_be_seen_is_unknown() -> None:
    day = a_day()
    day.see(f"autoscalers-{A}", 12.0, f"hpa:{A}/file", "unknown")
    day.hpa(A, 14.0, 2, 2, DURING)
    assert found(day).outcome is UNKNOWN
    day = a_day()
    day.see("pods", 28.0, f"pods:{A}/file", "unknown")
    day.pods(A, 30.0, 2, 2)
    assert found(day).outcome is PASS
    assert found(day, "scaling back").outcome is UNKNOWN
    day = a_day().without(
        lambda e: e.source == f"watch/autoscalers-{A}" and e.kind == "watch.beat"
        and T0 + 4 < e.t < T0 + 24
    )  # fmt: skip
    assert "silent" in found(day).because
    assert found(day).outcome is UNKNOWN


def test_metrics_that_it_cannot_get_are_told_and_unknown() -> None:
    day = Surge().without(lambda e: str(e.data.get("subject", "")).startswith("pods:"))
    assert isinstance(day, Surge)
    day.scaled(B)
    day.pods(A, -1, 1, 1).hpa(A, -1, 1, 1, None, why="FailedGetPodsMetric: no adapter")
    assert found(day).outcome is UNKNOWN
    assert "FailedGetPodsMetric" in found(day).because


def test_pods_that_were_just_changing_before_the_surge_are_unknown() -> None:
    day = a_day().pods(A, 2.0, 1, 2)
    assert found(day).outcome is UNKNOWN
    assert "just changing" in found(day).because


def test_the_tolerance_is_the_autoscalers_own() -> None:
    day = a_day()
    first = next(e for e in day.events if e.data.get("subject") == f"hpa:{A}/file")
    first.data["value"]["tolerance"] = 0.8  # type: ignore[index]
    assert "nothing was tried" in found(day).because


# ---- the surge ---------------------------------------------------------------------------------

AT_ONCE = Times((T0 + 5.0, T0 + 5.0), (T0 + 25.0, T0 + 25.0))
#: Of generators that began two seconds apart.
APART = Times((T0 + 5.0, T0 + 7.0), (T0 + 25.0, T0 + 27.0))


def case_of(day: Day, given: Plan | None = None) -> Case:
    return Case(given or asked(), day.evidence())


def objective(out_s: float = 8.0, in_s: float = 10.0) -> Scaling:
    (mine,) = (o for o in asked().objectives if isinstance(o, Scaling))
    return dataclasses.replace(mine, out_within_s=out_s, in_within_s=in_s)


def scaled(day: Day, surge: Times = AT_ONCE, zone: str = A) -> Scaled:
    return Scaled(case_of(day), surge, f"hpa:{zone}/file", "file")


def bare() -> Surge:
    """Nobody has seen an autoscaler or a pod yet."""
    day = Surge().without(lambda e: str(e.data.get("subject", "")).startswith("pods:"))
    assert isinstance(day, Surge)
    return day


def test_the_surge_is_the_whole_seconds_that_surely_lie_in_it() -> None:
    assert Times((4.2, 6.2), (25.7, 27.2)).seconds == range(7, 25)


def test_the_surge_begins_and_ends_between_the_first_and_the_last_generator() -> None:
    evidence = a_day().evidence()
    (tally,) = evidence.tallies
    later = dataclasses.replace(tally, worker="w1", start={"start_t": T0 + 1.5}, seconds=())
    case = Case(asked(), dataclasses.replace(evidence, tallies=(later, tally)))
    assert surge_of(case) == Times((T0 + 5.0, T0 + 6.5), (T0 + 25.0, T0 + 26.5))


def test_a_plan_without_a_surge_has_none() -> None:
    nothing = Times((0.0, 0.0), (0.0, 0.0), "the plan has no surge")
    assert surge_of(case_of(Day(), plan())) == nothing


@pytest.mark.parametrize(("more", "why_not"), [(0, ""), (1, "1899 of 2000 arrivals were sent")])
def test_all_but_a_twentieth_of_the_surge_must_have_been_sent(more: int, why_not: str) -> None:
    day = a_day()
    for offset in SURGE:
        first, *others = day.seconds[offset].cells
        fewer = dataclasses.replace(first, n=first.n - 5 - (more if offset == 20 else 0))
        day.seconds[offset] = dataclasses.replace(day.seconds[offset], cells=(fewer, *others))
    assert surge_of(case_of(day)).why_not.removeprefix("the surge never came: ") == why_not


@pytest.mark.parametrize(
    ("begins", "why_not"),
    [("106s", "the surge never came: 1000 of 2000"), ("106.5s", "the run ended before the surge")],
)
def test_a_surge_may_end_with_the_run(begins: str, why_not: str) -> None:
    later = plan(("rate: 50/s", f"rate: spike 50/s to 100/s at {begins} for 20s"))
    assert surge_of(case_of(Surge(), later)).why_not.startswith(why_not)


def test_it_is_watched_until_the_last_phase_is_over() -> None:
    assert watched_to(case_of(Day())) == T0 + LAST
    for phase in ("baseline", "cool-down"):
        day = Day()
        (end,) = (e for e in day.events if e.kind == "phase.end" and e.data.get("phase") == phase)
        assert watched_to(case_of(day.without([end].__contains__))) is None


@pytest.mark.parametrize(("n", "total", "part"), [(200, 2000, {A, B}), (199, 1995, {A})])
def test_who_answered_a_tenth_of_the_surge_took_part_in_it(
    n: int, total: int, part: set[str]
) -> None:
    day = Surge()
    cells = (day.cell("download", A, total - n), day.cell("download", B, n))
    for offset in SURGE:
        day.seconds[offset] = TallySecond(T0 + offset, 100, cells if offset == 9 else ())
    assert taking_part(case_of(day), AT_ONCE) == part


def test_who_hardly_took_part_is_not_judged() -> None:
    day = a_day(ready=LAST)
    for offset in SURGE:
        cells = (day.cell("download", B, 91), day.cell("download", A, 9))
        day.seconds[offset] = dataclasses.replace(day.seconds[offset], cells=cells)
    findings = list(judge_scaling(case_of(day), objective()))
    assert [(f.outcome, f"hpa:{B}/file" in f.because) for f in findings] == [(PASS, True)] * 2


def test_every_autoscaler_has_two_findings_and_there_are_no_others() -> None:
    assert [f.outcome for f in judge_scaling(case_of(a_day()), objective())] == [PASS] * 4


def test_where_nobody_knows_who_answered_every_autoscaler_is_judged() -> None:
    def unplaced(day: Surge) -> Case:
        for offset in SURGE:
            cells = tuple(dataclasses.replace(c, zone="") for c in day.seconds[offset].cells)
            day.seconds[offset] = dataclasses.replace(day.seconds[offset], cells=cells)
        return case_of(day)

    assert [f.outcome for f in judge_scaling(unplaced(a_day()), objective())] == [PASS] * 4
    (nobody,) = judge_scaling(unplaced(bare()), objective())
    assert (nobody.outcome, nobody.because) == (UNKNOWN, "nobody saw an autoscaler of file")


# ---- what it asks for --------------------------------------------------------------------------


@pytest.mark.parametrize(("since", "load"), [(15.0, {"requests": (50.0, 30.0)}), (15.1, {})])
def test_the_load_must_have_been_seen_for_half_of_the_surge(
    since: float, load: dict[str, tuple[float, float]]
) -> None:
    day = bare().hpa(A, -1, 1, 1, None).hpa(A, since, 1, 1, DURING)
    assert scaled(day).load == load


@pytest.mark.parametrize(
    "changed",
    [
        {"current": None},
        {"metrics": None},
        {"metrics": [{"name": "requests", "value": None, "target": TARGET}]},
        {"metrics": [{"name": "requests", "value": 50.0, "target": None}]},
        {"metrics": [{"name": "requests", "value": 50.0, "target": 0.0}]},
    ],
)
def test_what_an_autoscaler_does_not_say_is_no_load(changed: dict[str, Any]) -> None:
    day = bare().pods(A, -1, 1, 1).hpa(A, 4, 1, 1, DURING)
    day.events[-1].data["value"].update(changed)
    assert scaled(day).load == {}
    assert "is not known" in _nothing_shown(scaled(day))


@pytest.mark.parametrize(
    ("load", "tolerance", "needed"),
    [
        (0.0, 0.0, 1),
        (30.0, None, 1),
        (30.1, None, 2),
        (60.0, 0.0, 2),
        (60.1, 0.0, 3),
        (66.0, 0.1, 2),
        (66.1, 0.1, 3),
        (999.0, 0.1, 4),
    ],
)
def test_as_many_are_needed_as_bring_the_load_of_each_to_its_target(
    load: float, tolerance: float | None, needed: int
) -> None:
    assert scaled(bare().hpa(A, -1, 1, 1, load, tolerance=tolerance)).needed == needed


def test_the_last_target_is_what_one_pod_is_meant_for() -> None:
    day = bare().hpa(A, -1, 1, 1, 60.0)
    other = [{"name": "requests", "value": 60.0, "target": 20.0}]
    assert scaled(day.hpa(A, 24, 1, 1, 60.0, metrics=other, tolerance=0.0)).needed == 3


def test_the_metric_that_asks_for_most_decides_and_is_told() -> None:
    metrics = [
        {"name": "memory", "value": 100.0, "target": 100.0},
        {"name": "requests", "value": 20.0, "target": 8.0},
        {"name": "cpu", "value": 50.0, "target": 40.0},
    ]
    found = scaled(bare().hpa(A, -1, 1, 1, None, metrics=metrics))
    assert (found.needed, found.load_words) == (3, "a load of 20 requests, 8 per pod")


def test_why_an_autoscaler_saw_nothing_is_told_when_it_says_so() -> None:
    day = bare().hpa(A, -1, 1, 1, None)
    assert scaled(day).why_blind == "no value of its metrics was seen for long enough"
    assert scaled(day.hpa(A, 20, 1, 1, None, why="no adapter")).why_blind == "no adapter"


def test_one_with_as_many_pods_as_there_may_be_shows_nothing() -> None:
    day = bare().pods(A, -1, 4, 4).hpa(A, -1, 4, 4, 999.0)
    assert "as many as there may be" in _nothing_shown(scaled(day))


# ---- whether there were as many ----------------------------------------------------------------


def test_what_is_seen_at_both_ends_of_a_time_is_seen_in_it() -> None:
    day = bare().pods(A, 7, 1, 1).pods(A, 8, 1, 2).pods(A, 9, 2, 2)
    pods = scaled(day).seen(f"pods:{A}/file", T0 + 7.0, T0 + 9.0)
    assert [s.t - T0 for s in pods] == [7.0, 8.0, 9.0]


def test_generators_that_began_apart_make_the_intervals_wider() -> None:
    found = scaled(a_day(), APART)
    out, back = _scaled_out(objective(), found), _scaled_back(objective(), found)
    assert out.measured is not None and back.measured is not None
    assert (out.measured.low, out.measured.high) == (2.75, 5.0)
    assert (back.measured.low, back.measured.high) == (4.25, 6.5)
    assert "asked for more after 3.0 s" in out.because

    never = scaled(a_day(ready=LAST, takes=LAST), APART)
    outcomes = [_scaled_out(objective(s), never) for s in (18.0, 18.1)]
    assert [f.outcome for f in outcomes] == [FAIL, UNKNOWN]
    assert outcomes[0].measured is not None and outcomes[0].measured.low == 18.0
    assert "too soon to tell" in outcomes[1].because and outcomes[1].measured is None

    kept = scaled(a_day(takes=LAST), APART)
    outcomes = [_scaled_back(objective(8.0, s), kept) for s in (99.0, 99.1)]
    assert [f.outcome for f in outcomes] == [FAIL, UNKNOWN]
    assert outcomes[0].measured is not None and outcomes[0].measured.low == 99.0
    assert "too soon to tell" in outcomes[1].because and outcomes[1].measured is None


def test_what_was_before_is_what_was_before_the_first_generator_began() -> None:
    day = bare().pods(A, -1, 1, 1).hpa(A, -1, 1, 1, DURING)
    day.hpa(A, 6.0, 1, 3, DURING, most=9, tolerance=0.9).pods(A, 6.0, 3, 3).pods(A, 6.5, 1, 1)
    found = scaled(day, APART)
    assert (found.before, found.most, found.needed, found.most_ready) == (1, 4, 2, 3)
    # Its own surge may have begun by then.
    assert found.asked is not None and found.asked.t == T0 + 6.0
    assert found.reached is not None and found.reached.t == T0 + 6.0
    back = found.back(T0 + LAST)
    assert back is not None and back.t == T0 + 6.5


def test_it_may_take_until_the_last_generator_is_done_and_give_up_when_the_first_is() -> None:
    late = scaled(a_day(ready=26.0), APART)
    assert late.reached is not None and late.reached.t == T0 + 26.0
    assert scaled(a_day(takes=26.0), APART).given_up is None
    assert scaled(a_day(takes=24.9), APART).given_up is not None
    day = bare().pods(A, -1, 1, 1).hpa(A, -1, 1, 1, DURING).hpa(A, 6.0, 1, 2, DURING)
    given_up = scaled(day.hpa(A, 7.2, 1, 1, DURING).pods(A, 7.5, 2, 2), APART).given_up
    assert given_up is not None and given_up.t == T0 + 7.2


@pytest.mark.parametrize("blind", [5.5, 25.5])
def test_it_must_be_seen_from_the_first_generator_to_the_last(blind: float) -> None:
    day = a_day()
    day.see("pods", blind, f"pods:{A}/file", "unknown")
    day.pods(A, blind + 0.5, 1, 1)
    assert "could not be seen" in _nothing_shown(scaled(day, APART))


def test_what_came_at_once_took_no_time() -> None:
    day = bare().pods(A, -1, 1, 1).hpa(A, -1, 1, 1, DURING)
    day.hpa(A, 5.05, 1, 2, DURING).pods(A, 5.1, 2, 2).pods(A, 25.1, 1, 1)
    out, back = _scaled_out(objective(), scaled(day)), _scaled_back(objective(), scaled(day))
    for found in (out, back):
        assert found.measured is not None
        assert (found.outcome, found.measured.low) == (PASS, 0.0)
        assert found.measured.high == pytest.approx(0.1)


def test_one_that_began_without_pods_is_held_to_none() -> None:
    day = bare().pods(A, -1, 0, 0).hpa(A, -1, 1, 0, DURING)
    idle = scaled(day)
    assert (idle.before, idle.asked, idle.most_ready) == (0, None, 0)
    assert "never scaled out" in _scaled_back(objective(), idle).because
    found = scaled(day.hpa(A, 6, 1, 1, DURING).pods(A, 8, 1, 1))
    assert found.asked is not None and found.reached is None
    back = _scaled_back(objective(), found)
    assert (back.outcome, "still 1 pods, 0 before" in back.because) == (FAIL, True)


def test_without_a_word_of_its_pods_there_are_as_many_as_before() -> None:
    found = scaled(bare().pods(A, -1, 2, 2).hpa(A, -1, 2, 2, 99.0))
    assert found.most_ready == 2


def test_one_that_gave_up_just_before_it_had_as_many_is_a_failure() -> None:
    day = a_day().hpa(A, 9.8, 1, 1, DURING)
    day.without(lambda e: e.data.get("subject") == f"hpa:{A}/file" and T0 + 9.9 < e.t < T0 + 24)
    out = found(day)
    assert (out.outcome, "asked for fewer 4.8 s into it" in out.because) == (FAIL, True)
    assert found(a_day().hpa(A, 9.8, 1, 1, DURING)).outcome is FAIL
    # Once more before they were there, and never fewer from then on.
    assert found(a_day().hpa(A, 9.0, 1, 1, 9.0).hpa(A, 9.8, 1, 2, DURING)).outcome is PASS


def test_one_whose_asking_is_seen_after_its_pods_has_not_given_up() -> None:
    out = found(a_day(asks=10.1, ready=10.3).pods(A, 10.0, 2, 2))
    assert (out.outcome, "asked for more after 5.1 s" in out.because) == (PASS, True)


@pytest.mark.parametrize("at", [12.0, 40.0])
@pytest.mark.parametrize(
    "said",
    [
        lambda day, at: day.see("pods", at, f"pods:{A}/file", {"ready": 2}),
        lambda day, at: day.see("pods", at, f"pods:{A}/file", {"total": 1}),
        lambda day, at: day.see("pods", at, f"pods:{A}/file", {"ready": 2, "total": math.nan}),
        lambda day, at: day.see("pods", at, f"pods:{A}/file", None),
        lambda day, at: day.see(f"autoscalers-{A}", at, f"hpa:{A}/file", {"scales": "file"}),
    ],
)
def test_a_sighting_that_does_not_say_how_many_there_were_is_no_sign_of_few(
    said: Callable[[Surge, float], object], at: float
) -> None:
    day = a_day()
    said(day, at)
    if at < max(SURGE):
        assert "does not say how many" in found(day).because
        assert found(day).outcome is UNKNOWN
    else:
        assert found(day).outcome is PASS
        assert found(day, "scaling back").outcome is UNKNOWN
