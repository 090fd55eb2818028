"""A service that is scaled out and back in as it must be, and every way in which it may not be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.evidence.model import Event, TallySecond
from harness.plan.model import Plan
from harness.verdict import Finding, Outcome, judge
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
