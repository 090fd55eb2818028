"""A service that is stopped and degrades as declared, and every way in which it may not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from harness.evidence.model import Series, SeriesLine, TallyCell, TallySecond
from harness.plan.model import Degradation, Plan
from harness.verdict import Finding, Outcome, judge
from harness.verdict.case import Case
from harness.verdict.degradation import Degraded
from harness.verdict.landing import Landing
from tests.verdict.build import LAST, RATE, T0, A, B, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
WORDING = "download degraded within 3s, at least 99 % answered, whole again within 5s"
TEXT, AGAIN, OTHERWISE = (
    f"degradation: {WORDING}",
    "whole again: download",
    "degraded otherwise: download",
)
#: The fault is made 51.5 to 51.55 s into the day and taken back from 65.6 s on; watched until 76.
HELD, BACK = range(52, 66), range(66, 76)


def asked(wording: str = WORDING, breaker: str = "\n    breaker: state", of: str = "zone") -> Plan:
    return plan(
        ("experiments/zones/lose-us-east-1a.json", "experiments/services/stop-image.json"),
        ("  - recovery: within 8s\n    of: [pod, zone, region]\n", ""),
        ("objectives:\n", f"objectives:\n  - degradation: {wording}\n    of: [{of}]{breaker}\n"),
    )


class Stopped(Day):
    """The zone's fault is a service that is stopped: what is asked of it fails for a second, and
    is answered with less from then on, until 1.4 s after it is taken back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for event in self.events:
            if event.kind == "fault.start" and event.data["fault"] == "zone":
                event.data["targets"] = [f"deployment:{A}/image"]  # type: ignore[index]
        for offset, ready in ((-1, 1), (51.8, 0), (67, 1)):
            uids = ["uid-9"] * ready
            self.see("pods", offset, f"pods:{A}/image", {"ready": ready, "total": ready,
                                                         "uids": uids})  # fmt: skip
        for offset in (*HELD, *BACK):
            self.answered(offset)
        self.answered(52, failed=12)
        for offset in range(53, 67):
            self.answered(offset, degraded=48)
        self.breaker(lambda offset: 52.6 <= offset < 67.5)

    def answered(self, offset: int, *, degraded: int = 0, failed: int = 0, kind: str = "stale",
                 op: str = "download") -> Stopped:  # fmt: skip
        """What became of the second's downloads; the rest succeeded."""
        ok, upload = self.cell("download", B, 48 - degraded - failed), self.cell("upload", B, 2)
        less = TallyCell(op, B[:-1], B, "degraded", kind, degraded, 9, {}, {}, {})
        bad = TallyCell("download", "", "", "failed", "status-503", failed, 0, {}, {}, {})
        cells = tuple(cell for cell in (ok, less, bad, upload) if cell.n)
        self.seconds[offset] = TallySecond(T0 + offset, RATE, cells)
        return self

    def breaker(self, is_open: Callable[[float], bool], **changes: object) -> Stopped:
        """Its state, scraped 0.3 s into each second."""
        (objective,) = (o for o in asked().objectives if isinstance(o, Degradation))
        instants = [offset + 0.3 for offset in range(-1, LAST + 3)]
        points = tuple((T0 + o, "2" if is_open(o) else "0") for o in instants)
        series = Series(
            name=objective.series_name, query="state", step_s=1.0, start=T0 - 1.0, end=T0 + LAST,
            status="success", warnings=(), fetched_t=T0 + LAST + 4.0, error="",
            result=(SeriesLine({"instance": "gateway"}, points),),
        )  # fmt: skip
        self.series[objective.series_name] = dataclasses.replace(series, **changes)  # type: ignore[arg-type]
        return self


def found(day: Day, objective: str, given: Plan | None = None) -> Finding:
    verdict = judge(given or asked(), day.evidence())
    (mine,) = (f for f in verdict.findings if f.objective == objective)
    return mine


def outcomes(day: Day, given: Plan | None = None) -> tuple[Outcome, ...]:
    return tuple(found(day, name, given).outcome for name in (TEXT, AGAIN, OTHERWISE))


def test_less_is_shown_while_it_is_gone_and_no_longer() -> None:
    day = Stopped()
    assert outcomes(day) == (PASS, PASS, PASS)
    degraded, again = found(day, TEXT), found(day, AGAIN)
    # Whole seconds from three after the landing on, to the one in which it is taken back.
    assert f"{10 * 48} of {10 * 48} answered, {10 * 48} of them degraded" in degraded.because
    assert f"{10 * 48} stale" in degraded.because
    assert "a circuit breaker opened 0.8–1.8 s after the fault" in degraded.because
    assert again.measured is not None
    assert (again.measured.low, again.measured.high) == pytest.approx((0.4, 1.4))
    assert "every circuit breaker closed after 1.7–2.7 s" in again.because
    assert "none of" in found(day, OTHERWISE).because


def test_what_is_degraded_is_no_success_unless_it_is_said_to_count() -> None:
    counted = 'availability: at least 97 %\n    degraded: counts\n    in: ["fault:zone"]'
    changes = ("objectives:\n", f"objectives:\n  - {counted}\n")
    given = plan(("experiments/zones/lose-us-east-1a.json",
                  "experiments/services/stop-image.json"), changes)  # fmt: skip
    findings = {(f.objective, f.phase): f for f in judge(given, Stopped().evidence()).findings}
    strict = findings["availability: at least 75 %", "fault:zone"]
    assert strict.outcome is FAIL and "degraded × 624" in strict.because
    text = "availability: at least 97 %, degraded answers counted"
    assert findings[text, "fault:zone"].outcome is PASS
    assert "624 of them degraded" in findings[text, "fault:zone"].because


def test_errors_instead_are_a_failure_however_few_are_allowed() -> None:
    day = Stopped()
    for offset in range(55, 65):
        day.answered(offset, degraded=47, failed=1)
    assert outcomes(day) == (FAIL, PASS, PASS)
    assert "10 failed" in found(day, TEXT).because
    # Before it must have come to terms with the fault, it may fail.
    early = Stopped().answered(53, failed=48).answered(54, failed=48)
    assert outcomes(early) == (PASS, PASS, PASS)
    assert outcomes(early.answered(55, failed=48)) == (FAIL, PASS, PASS)


def test_whoever_goes_on_as_if_nothing_was_has_shown_nothing() -> None:
    day = Stopped()
    for offset in (*HELD, *BACK):
        day.answered(offset)
    assert outcomes(day) == (UNKNOWN, PASS, PASS)
    assert "nothing was tried" in found(day, TEXT).because


def test_a_breaker_must_open_in_time() -> None:
    assert outcomes(Stopped().breaker(lambda o: False)) == (FAIL, PASS, PASS)
    assert "never opened" in found(Stopped().breaker(lambda o: False), TEXT).because
    # Between the scrapes at 53.3 and 54.3, at most 2.8 s after; then around the bound; then late.
    for opens, outcome in ((54, PASS), (55, UNKNOWN), (56, FAIL)):
        day = Stopped().breaker(lambda o, s=opens: s <= o < 67.5)
        assert found(day, TEXT).outcome is outcome
    assert outcomes(Stopped(), asked(breaker="")) == (PASS, PASS, PASS)


def test_a_breaker_that_was_open_before_the_fault_shows_nothing() -> None:
    day = Stopped().breaker(lambda o: 50 <= o < 67.5)
    assert outcomes(day) == (UNKNOWN, UNKNOWN, PASS)
    # One that was open and closed again long before is of another fault.
    assert outcomes(Stopped().breaker(lambda o: o < 20 or 52.6 <= o < 67.5)) == (PASS, PASS, PASS)


def test_a_breaker_must_close_in_time_and_for_good() -> None:
    never = Stopped().breaker(lambda o: o >= 52.6)
    assert outcomes(never) == (PASS, FAIL, PASS)
    assert "never closed again" in found(never, AGAIN).because
    for closes, outcome in ((70, PASS), (71, UNKNOWN), (72, FAIL)):
        day = Stopped().breaker(lambda o, s=closes: 52.6 <= o < s)
        assert found(day, AGAIN).outcome is outcome
    flaps = Stopped().breaker(lambda o: 52.6 <= o < 67.5 or 72 <= o < 73)
    assert found(flaps, AGAIN).outcome is FAIL


def test_degraded_for_too_long_or_once_more_is_a_failure() -> None:
    for last, outcome in ((69, PASS), (70, UNKNOWN), (71, FAIL)):
        day = Stopped()
        for offset in range(67, last + 1):
            day.answered(offset, degraded=48)
        assert found(day, AGAIN).outcome is outcome
    assert found(Stopped().answered(74, degraded=1), AGAIN).outcome is FAIL


def test_whole_again_is_not_errors() -> None:
    day = Stopped()
    for offset in range(71, 76):
        day.answered(offset, failed=2)
    assert found(day, AGAIN).outcome is FAIL
    for offset in range(71, 76):
        day.seconds[offset] = TallySecond(T0 + offset, 0, ())
    assert found(day, AGAIN).outcome is UNKNOWN


def test_nothing_may_be_degraded_without_a_fault_it_is_declared_for() -> None:
    day = Stopped().answered(20, degraded=1).answered(120, degraded=2, kind="")
    otherwise = found(day, OTHERWISE)
    assert otherwise.outcome is FAIL
    assert "1 in baseline, 2 in cool-down" in otherwise.because
    # Of another operation that is somebody else's matter.
    assert found(Stopped().answered(20, degraded=1, op="list"), OTHERWISE).outcome is PASS


def test_a_fault_that_never_landed_and_a_recovery_nobody_watched_are_unknown() -> None:
    never = Stopped().without(lambda e: e.data.get("subject") == f"pods:{A}/image")
    assert outcomes(never) == (UNKNOWN, UNKNOWN, PASS)
    stopped = Stopped().without(
        lambda e: e.kind == "phase.end" and e.data.get("phase") == "recovery:zone"
    )
    assert outcomes(stopped)[:2] == (UNKNOWN, UNKNOWN)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"error": "timeout: x", "status": "error"}, "timeout"),
        ({"warnings": ("a store is away",)}, "partial"),
        ({"result": ()}, "empty"),
        ({"result": (SeriesLine({}, ((T0 + 0.3, "0"), (T0 + 125.3, "0"))),)}, "no scrape"),
        (
            {"result": (SeriesLine({}, tuple((T0 + o + 0.3, "NaN") for o in range(126))),)},
            "is not the state",
        ),
    ],
)
def test_what_prometheus_cannot_tell_of_the_breaker_is_unknown(
    changes: dict[str, object], why: str
) -> None:
    day = Stopped().breaker(lambda o: 52.6 <= o < 67.5, **changes)
    assert outcomes(day) == (UNKNOWN, UNKNOWN, PASS)
    assert why in found(day, TEXT).because and why in found(day, AGAIN).because
    gone = Stopped()
    del gone.series[next(name for name in gone.series if name.startswith("breaker-"))]
    assert outcomes(gone) == (UNKNOWN, UNKNOWN, PASS)


def test_of_several_breakers_the_first_to_open_and_the_last_to_close_count() -> None:
    day = Stopped()
    (name,) = (name for name in day.series if name.startswith("breaker-"))
    one = day.series[name].result[0]
    late = tuple((t, "1" if 57 <= t - T0 < 73 else "0") for t, _ in one.points)
    other = SeriesLine({"instance": "other"}, late)
    day.series[name] = dataclasses.replace(day.series[name], result=(one, other))
    assert outcomes(day) == (PASS, FAIL, PASS)


def test_a_breaker_that_opened_or_closed_just_then_did_so_at_once() -> None:
    day = Stopped().breaker(lambda o: 51.6 <= o < 66)
    # Between the scrapes at 51.3 and 52.3, 65.3 and 66.3: perhaps before, which is no time at all.
    assert "a circuit breaker opened 0.0–0.8 s after the fault" in found(day, TEXT).because
    assert "every circuit breaker closed after 0.0–0.7 s" in found(day, AGAIN).because


def test_the_last_state_before_the_fault_and_the_last_of_all_count() -> None:
    assert outcomes(Stopped().breaker(lambda o: 51 <= o < 67.5)) == (UNKNOWN, UNKNOWN, PASS)
    shut_in_time = Stopped().breaker(lambda o: 50 <= o < 51 or 52.6 <= o < 67.5)
    assert outcomes(shut_in_time) == (PASS, PASS, PASS)
    for again, words in ((75, "never closed again"), (74, "never closed again")):
        day = Stopped().breaker(lambda o, s=again: 52.6 <= o < 67.5 or o >= s)
        assert words in found(day, AGAIN).because
    shut_at_last = Stopped().breaker(lambda o: 52.6 <= o < 67.5 or 74 <= o < 75)
    assert "every circuit breaker closed after 8.7–9.7 s" in found(shut_at_last, AGAIN).because


def test_when_a_breaker_turned_is_as_uncertain_as_the_clocks() -> None:
    day = Stopped()
    (name,) = (name for name in day.series if name.startswith("breaker-"))
    (line,) = day.series[name].result
    ahead = tuple((t + 1.4, value) for t, value in line.points)
    result = (dataclasses.replace(line, points=ahead),)
    day.series[name] = dataclasses.replace(day.series[name], result=result)
    for offset, ahead_s in ((-1, 1.0), (60, 1.8)):
        day.say("watch/clock", offset, "sighting", subject="clock:prometheus", value=ahead_s,
                uncertainty_s=0.05)  # fmt: skip
    assert "–2.2 s after the fault" in found(day, TEXT).because
    assert "every circuit breaker closed after 1.3–3.1 s" in found(day, AGAIN).because


def test_too_few_arrivals_show_no_share() -> None:
    def with_arrivals(n: int, seconds: range, outcome: str) -> Stopped:
        day = Stopped()
        for offset in seconds:
            day.seconds[offset] = TallySecond(T0 + offset, 0, ())
        kind = "stale" if outcome == "degraded" else ""
        cell = dataclasses.replace(day.cell("download", B, n), outcome=outcome, error=kind)
        day.seconds[seconds.start] = TallySecond(T0 + seconds.start, n, (cell,))
        return day

    wording = WORDING.replace("99 %", "10 %")
    wide = asked(wording)
    for n, outcome in ((1, UNKNOWN), (19, UNKNOWN), (20, PASS)):
        held = found(with_arrivals(n, range(55, 66), "degraded"), f"degradation: {wording}", wide)
        after = found(with_arrivals(n, range(71, 76), "ok"), AGAIN, wide)
        assert (held.outcome, after.outcome) == (outcome, outcome)
        said = f"{n} arrivals"
        assert outcome is PASS or (said in held.because and said in after.because)
    # The fault was taken back before anything was to have been come to terms with.
    hasty = WORDING.replace("within 3s", "within 14s")
    finding = found(Stopped(), f"degradation: {hasty}", asked(hasty))
    assert finding.outcome is UNKNOWN
    assert "0 arrivals of download in 0 s show no share" in finding.because


def test_who_was_shown_nothing_elsewhere_has_not_shown_that_nothing_was_degraded() -> None:
    day = Stopped()
    for offset in (*range(51), *range(76, LAST)):
        day.seconds[offset] = TallySecond(T0 + offset, 0, ())
    assert found(day, OTHERWISE).outcome is UNKNOWN


def test_degraded_only_until_the_fault_is_taken_back_is_whole_at_once() -> None:
    day = Stopped().answered(66)
    again = found(day, AGAIN)
    assert again.measured is not None
    assert (again.measured.low, again.measured.high) == pytest.approx((0.0, 0.4))
    none = found(day.answered(65), AGAIN)
    assert none.measured is not None
    assert (none.measured.low, none.measured.high) == (0.0, 0.0)
    assert "none was degraded any more" in none.because
    # What comes after the recovery is another phase's matter.
    assert found(Stopped().answered(76, degraded=1), AGAIN).outcome is PASS


def test_a_fault_of_which_the_end_is_not_known_shows_nothing() -> None:
    (objective,) = (o for o in asked().objectives if isinstance(o, Degradation))
    case = Case(asked(), Stopped().evidence())
    seen = Degraded(case, objective, Landing("zone", T0 + 51.5, T0 + 51.55, ("pods",), ""))
    assert seen.why_not == ""
    for undo_t, end_t, why in (
        (None, seen.end_t, "taken back"),
        (seen.landed.high, seen.end_t, "taken back"),
        (seen.undo_t, None, "not watched to its end"),
        (seen.undo_t, seen.undo_t, "not watched to its end"),
    ):
        one = Degraded(case, objective, seen.landed)
        one.undo_t, one.end_t = undo_t, end_t
        assert why in one.why_not


def test_what_is_required_and_where_it_is_seen_name_a_breaker_only_where_one_is_asked_for() -> None:
    for given, named in ((asked(), True), (asked(breaker=""), False)):
        for text in (TEXT, AGAIN):
            finding = found(Stopped(), text, given)
            assert ("circuit breaker" in finding.required) is named
            assert any("breaker-" in where for where in finding.evidence) is named


def test_the_service_must_have_its_pods_back() -> None:
    day = Stopped().without(lambda e: e.data.get("subject") == f"pods:{A}/image" and e.t - T0 == 67)
    back = found(day, "service back")
    assert back.outcome is FAIL and "0 ready of 1" in back.because
    assert found(Stopped(), "service back").outcome is PASS
