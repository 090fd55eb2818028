"""Alerts that fire, arrive and end as they must, and every way in which they may not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from harness.evidence.deliveries import Delivery, fingerprint
from harness.evidence.model import Event
from harness.plan.model import Alert, NoOtherAlert, Plan
from harness.plan.selector import parse_selector
from harness.verdict import Finding, Outcome, judge
from harness.verdict.alerting import (
    ALERTMANAGER,
    PROMETHEUS,
    Alerts,
    Instance,
    Stretch,
    _latest,
    _restored,
    judge_fires,
    judge_no_other,
    judge_resolves,
    matches,
)
from harness.verdict.case import Case
from harness.verdict.landing import Landing
from harness.verdict.model import Measured
from tests.verdict.build import LAST, T0, A, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
SELECTOR = f'ServiceDown{{zone="{A}"}}'
WORDING = f"{SELECTOR} fires within 8s to slack, oncall and resolves within 6s"
RECEIVERS = {"slack": "slack", "oncall": "pagerduty"}
#: The zone is lost at 51.5, taken back at 65.6 to 65.7; its recovery ends at 76.
LOST, BACK = 51.5, 65.6
AUTH = {"alertname": "ServiceDown", "app": "auth", "severity": "critical", "zone": A}
FILE = {**AUTH, "app": "file"}
OTHER = {"alertname": "DiskFull", "host": "a"}


def asked(alert: str = WORDING, other: str = "") -> Plan:
    """The plan with an alert expected of the zone, and perhaps no other in its phases."""
    text = f"objectives:\n  - alert: {alert}\n    of: [zone]\n"
    if other:
        text += f"  - alerts: {other}\n    in: [baseline, 'fault:zone', 'recovery:zone']\n"
    return plan(("objectives:\n", text))


class Alerting(Day):
    """A day with three links to watch; nothing has fired yet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        links = ["alerts", "alertmanager", "receivers"]
        for observer in links:
            self.say(f"watch/{observer}", -1.5, "watch.start", observer=observer, period_s=1.0)
            for n, offset in enumerate(range(0, LAST + 3, 5)):
                self.say(f"watch/{observer}", offset, "watch.beat", polls=5 * n + 3, errors=0)
        for name, kind in RECEIVERS.items():
            self.see("receivers", -1, f"receiver:{name}", "listening")
            self.say(f"receiver/{name}", -1.5, "receiver.start", receiver=name, receiver_kind=kind)
        start = next(i for i, event in enumerate(self.events) if event.kind == "run.start")
        said = self.events[start].data
        observers = [*said["observers"], *links]
        data = {**said, "observers": observers, "receivers": list(RECEIVERS)}
        self.events[start] = dataclasses.replace(self.events[start], data=data)

    def in_prometheus(self, labels: dict[str, str], offset: float, state: str) -> None:
        self.see("alerts", offset, "alert:" + subject(labels), state)

    def in_alertmanager(self, labels: dict[str, str], offset: float, state: str) -> None:
        self.see("alertmanager", offset, "alertmanager:" + subject(labels), state)

    def tell(
        self,
        labels: dict[str, str],
        offset: float,
        status: str,
        receivers: tuple[str, ...] = tuple(RECEIVERS),
        **more: object,
    ) -> None:
        for name in receivers:
            said = {"fingerprint": fingerprint(labels), "known_by": "fingerprint", **more}
            self.say(f"receiver/{name}", offset, "alert.delivery", receiver=name, status=status,
                     labels=labels, **said)  # fmt: skip

    def alert(
        self,
        labels: dict[str, str],
        fires: float = 55.0,
        ends: float = 67.0,
        told: float = 1.0,
        receivers: tuple[str, ...] = tuple(RECEIVERS),
    ) -> Alerting:
        """One alert on its whole way: seen, taken, told ``told`` seconds later; and its end."""
        self.in_prometheus(labels, fires - 2, "pending")
        self.in_prometheus(labels, fires, "firing")
        self.in_prometheus(labels, ends, "inactive")
        self.in_alertmanager(labels, fires, "active")
        self.in_alertmanager(labels, ends, "resolved")
        self.tell(labels, fires + told, "firing", receivers)
        self.tell(labels, ends + told, "resolved", receivers)
        return self


def subject(labels: dict[str, str]) -> str:
    rest = ",".join(f"{k}={v}" for k, v in sorted(labels.items()) if k != "alertname")
    return f"{labels['alertname']}/{rest}"


def a_day(*alerts: dict[str, str]) -> Alerting:
    day = Alerting()
    for labels in alerts or (AUTH, FILE):
        day.alert(labels)
    return day


def found(day: Day, phase: str, kind: str = "alert:", given: Plan | None = None) -> Finding:
    verdict = judge(given or asked(), day.evidence())
    mine = [f for f in verdict.findings if f.objective.startswith(kind) and f.phase == phase]
    assert len(mine) == 1, [(f.objective, f.phase) for f in verdict.findings]
    return mine[0]


def fires(day: Day, given: Plan | None = None) -> Finding:
    return found(day, "fault:zone", given=given)


def resolves(day: Day, given: Plan | None = None) -> Finding:
    return found(day, "recovery:zone", given=given)


def says(finding: Finding, outcome: Outcome, *words: str) -> None:
    assert finding.outcome is outcome, finding.because
    for word in words:
        assert word in finding.because


# ---- as it must be -----------------------------------------------------------------------------


def test_a_day_on_which_every_alert_arrived_and_ended_passes() -> None:
    verdict = judge(asked(other="no other"), a_day().evidence())
    assert {f.outcome for f in verdict.findings} == {PASS}, verdict.summary
    assert int(verdict.exit_status) == 0


def test_the_time_runs_from_the_landing_to_the_first_delivery_and_back_from_the_undo() -> None:
    fired = fires(a_day())
    says(fired, PASS, "at slack 4.5 s after the landing", "known by its fingerprint")
    assert fired.measured is not None and fired.measured.low is not None
    assert (round(fired.measured.low, 3), fired.measured.high) == (4.45, 4.5)
    ended = resolves(a_day())
    says(ended, PASS, "resolved 2.4 s after the fault was taken back")
    assert ended.measured is not None and ended.measured.low is not None
    assert round(ended.measured.low, 3) == 2.3


def test_a_plan_with_alerts_survives_its_json() -> None:
    given = asked(other=f"no other but TargetDown, {SELECTOR}")
    assert Plan.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_without_receivers_it_is_enough_that_it_fires_and_resolves_in_prometheus() -> None:
    given = asked("ServiceDown fires within 8s and resolves within 6s")
    day = Alerting()
    for offset, state in ((55.0, "firing"), (67.0, "inactive")):
        day.in_prometheus(AUTH, offset, state)
    says(fires(day, given), PASS, "firing in Prometheus 3.2–3.5 s after the landing")
    says(resolves(day, given), PASS, "as Prometheus says")
    assert fires(Alerting(), given).outcome is FAIL


# ---- the link that broke -------------------------------------------------------------------------


def never_told(day: Alerting, receiver: str = "slack") -> Alerting:
    return day.without(lambda e: e.source == f"receiver/{receiver}" and e.kind == "alert.delivery")  # type: ignore[return-value]


def test_a_rule_that_does_not_fire_is_named() -> None:
    says(fires(Alerting()), FAIL, "the rule did not fire: ServiceDown was not even pending")
    day = Alerting()
    day.in_prometheus(AUTH, 55, "pending")
    says(fires(day), FAIL, "the rule did not fire: ServiceDown was only pending")


def test_an_alert_of_another_zone_is_none_of_this_one() -> None:
    says(fires(a_day({**AUTH, "zone": "us-east-1b"})), FAIL, "the rule did not fire")


def test_one_that_never_reaches_alertmanager_is_named() -> None:
    day = Alerting()
    day.in_prometheus(AUTH, 55, "firing")
    says(fires(day), FAIL, "fired in Prometheus 3.5 s after the landing, never in Alertmanager")


def test_one_that_is_never_delivered_is_named_and_who_got_it_instead() -> None:
    words = "in Alertmanager 3.5 s after the landing, never delivered to slack"
    says(fires(never_told(a_day())), FAIL, words + " (oncall got it)")
    nobody = never_told(never_told(a_day()), "oncall")
    says(fires(nobody), FAIL, words + " (nor to any other)", "never delivered to oncall")
    says(resolves(nobody), UNKNOWN, "it never arrived at slack")


def test_one_that_is_silenced_is_named() -> None:
    day = Alerting()
    day.in_prometheus(AUTH, 55, "firing")
    day.in_alertmanager(AUTH, 55, "suppressed")
    says(fires(day), FAIL, "suppressed in Alertmanager (silenced or inhibited)")


def test_one_that_comes_late_is_late_even_if_only_to_one_receiver() -> None:
    day = Alerting().alert(AUTH, receivers=("oncall",))
    day.tell(AUTH, 60.0, "firing", ("slack",))
    says(fires(day), FAIL, "delivered late: at slack 8.5 s after the landing")
    assert fires(Alerting().alert(AUTH, told=4.4)).outcome is PASS
    assert fires(Alerting().alert(AUTH, told=4.52)).outcome is UNKNOWN, "bound within uncertainty"


def test_of_several_each_that_stays_must_arrive_and_one_that_flickers_need_not() -> None:
    day = a_day(AUTH)
    for see, on, off in ((day.in_prometheus, "firing", "inactive"),
                         (day.in_alertmanager, "active", "resolved")):  # fmt: skip
        see(FILE, 55, on)
        see(FILE, 60, off)
    assert fires(day).outcome is PASS
    stays = a_day(AUTH)
    stays.in_prometheus(FILE, 55, "firing")
    says(fires(stays), FAIL, 'app="file"', "firing in Prometheus too, was never in Alertmanager")
    stays.in_alertmanager(FILE, 55, "active")
    says(fires(stays), FAIL, 'app="file"', "was never delivered to slack")
    for name in RECEIVERS:
        stays.say(f"receiver/{name}", 56, "alert.unreadable", receiver=name, why="no JSON")
    says(fires(stays), UNKNOWN, "was never delivered to slack, unless: a message to slack could")
    # Of one that Alertmanager never had it cannot have told.
    stays.in_prometheus({**AUTH, "app": "gateway"}, 55, "firing")
    says(fires(stays), FAIL, 'app="gateway"', "firing in Prometheus too, was never in Alertmanager")


def test_labels_that_alertmanager_adds_make_no_other_alert() -> None:
    day = Alerting()
    there = {**AUTH, "cluster": "lab"}
    for offset, state in ((55.0, "firing"), (67.0, "inactive")):
        day.in_prometheus(AUTH, offset, state)
    for offset, state in ((55.0, "active"), (67.0, "resolved")):
        day.in_alertmanager(there, offset, state)
    day.tell(there, 56, "firing")
    day.tell(there, 68, "resolved")
    assert (fires(day).outcome, resolves(day).outcome) == (PASS, PASS)
    assert found(day, "fault:zone", "alerts:", asked(other="no other")).outcome is PASS


# ---- the end -------------------------------------------------------------------------------------


def test_one_that_resolves_late_is_late() -> None:
    says(resolves(Alerting().alert(AUTH, ends=71.0)), FAIL, "resolved late: resolved 6.4 s after")


def test_one_that_resolved_before_the_fault_was_taken_back_passes() -> None:
    says(resolves(Alerting().alert(AUTH, ends=60.0)), PASS, "before it was taken back")


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        (("alert:", "alertmanager:", "told"), "still firing in Prometheus"),
        (("alertmanager:", "told"), "still active in Alertmanager"),
        (("told",), "its end was never told to slack"),
    ],
)
def test_one_that_never_resolves_says_what_kept_it(drop: tuple[str, ...], words: str) -> None:
    def ends(event: Event) -> bool:
        told = event.kind == "alert.delivery" and event.data["status"] == "resolved"
        seen = event.data.get("value") in ("inactive", "resolved")
        kind = str(event.data.get("subject", "")).partition(":")[0] + ":"
        return (told and "told" in drop) or (seen and kind in drop)

    says(resolves(a_day().without(ends)), FAIL, "never resolved", words)


def test_one_that_fires_again_in_the_recovery_has_not_ended() -> None:
    day = a_day(AUTH)
    day.tell(AUTH, 70, "firing")
    says(resolves(day), FAIL, "never resolved")


# ---- what nobody saw -----------------------------------------------------------------------------


def without_source(source: str) -> Callable[[Event], bool]:
    return lambda event: event.source == source


@pytest.mark.parametrize("source", ["watch/alerts", "watch/alertmanager", "watch/receivers",
                                    "receiver/slack"])  # fmt: skip
def test_a_link_nobody_watched_is_unknown_whether_or_not_the_alert_arrived(source: str) -> None:
    assert fires(a_day().without(without_source(source))).outcome is UNKNOWN
    if source != "receiver/slack":  # the other receiver was there, and did not get it
        assert fires(Alerting().without(without_source(source))).outcome is UNKNOWN


def test_a_target_without_receivers_or_alertmanager_is_unknown() -> None:
    day = Alerting().without(
        lambda e: e.source.startswith("receiver/") or e.source == "watch/alertmanager"
    )
    start = next(i for i, event in enumerate(day.events) if event.kind == "run.start")
    data = {**day.events[start].data, "receivers": []}
    day.events[start] = dataclasses.replace(day.events[start], data=data)
    says(fires(day), UNKNOWN, "no receiver slack was listening")


def test_a_receiver_that_did_not_listen_for_a_time_is_unknown() -> None:
    for day in (a_day(), Alerting()):
        for name in RECEIVERS:
            day.see("receivers", 57, f"receiver:{name}", "unknown")
            day.see("receivers", 63, f"receiver:{name}", "listening")
        says(fires(day), UNKNOWN, "receiver slack may not have been listening")
        assert resolves(day).outcome is UNKNOWN


def test_a_hole_in_the_record_of_a_receiver_is_unknown() -> None:
    day = a_day()
    lines = [e for e in day.lines() if not (e.source == "receiver/slack" and e.seq == 2)]
    verdict = judge(asked(), day.evidence(lines))
    mine = next(f for f in verdict.findings if f.objective.startswith("alert:"))
    says(mine, UNKNOWN, "the record of receiver slack is incomplete")


@pytest.mark.parametrize("observer", ["alerts", "alertmanager"])
def test_an_observer_whose_every_question_failed_saw_nothing(observer: str) -> None:
    day = Alerting()
    for index, event in enumerate(day.events):
        if event.source == f"watch/{observer}" and event.kind == "watch.beat":
            data = {**event.data, "errors": event.data["polls"]}
            day.events[index] = dataclasses.replace(event, data=data)
    says(fires(day), UNKNOWN, "nothing arrived at slack", f"watch/{observer} saw nothing for")


@pytest.mark.parametrize(("failed", "blind"), [((60,), False), ((60, 65), True)])
def test_an_answer_may_have_come_just_after_the_beat_before(
    failed: tuple[int, ...], blind: bool
) -> None:
    """The last answer before those beats came between 50 and 55; the zone is lost at 51.5."""
    day = Alerting()
    day.in_prometheus(AUTH, 53, "firing")
    for index, event in enumerate(day.events):
        if event.source == "watch/alertmanager" and event.kind == "watch.beat":
            missed = sum(5 for beat in failed if beat <= event.t - T0)
            data = {**event.data, "errors": missed}
            day.events[index] = dataclasses.replace(event, data=data)
    says(fires(day), *((UNKNOWN, "saw nothing for") if blind else (FAIL, "never in Alertmanager")))


def test_a_message_nobody_can_read_may_have_been_the_one() -> None:
    day = Alerting()
    for name in RECEIVERS:
        day.say(f"receiver/{name}", 56, "alert.unreadable", receiver=name, why="no JSON")
    says(fires(day), UNKNOWN, "a message to slack could not be read: no JSON")


def test_one_that_fired_before_the_fault_says_nothing_of_it() -> None:
    day = Alerting()
    day.in_prometheus(AUTH, 30, "firing")
    day.tell(AUTH, 31, "firing")
    says(fires(day), UNKNOWN, "was firing before the fault landed")
    day.tell(AUTH, 53, "firing")
    assert fires(day).outcome is UNKNOWN, "told again"


# ---- known only by a title -----------------------------------------------------------------------


def titled(day: Alerting, *words: str, offset: float = 56.0, status: str = "firing") -> None:
    name = {"alertname": "ServiceDown"}
    more = {"fingerprint": "", "known_by": "title", "words": list(words), "group": ""}
    day.tell(name, offset, status, ("slack",), **more)


def test_a_title_with_the_values_asked_for_is_enough_and_says_so() -> None:
    day = Alerting().alert(AUTH, receivers=("oncall",))
    titled(day, A)
    titled(day, A, offset=68, status="resolved")
    says(fires(day), PASS, "known by its title")
    says(resolves(day), PASS, "told to slack")


def test_a_title_without_them_is_not() -> None:
    day = Alerting().alert(AUTH, receivers=("oncall",))
    titled(day, "critical")
    says(fires(day), UNKNOWN, "slack was told of ServiceDown, its title not of which")


def test_titles_do_not_tell_whether_all_of_several_arrived() -> None:
    day = Alerting()
    for labels in (AUTH, FILE):
        day.alert(labels, receivers=("oncall",))
    titled(day, A)
    says(fires(day), UNKNOWN, "whether all 2 of them did cannot be told")


# ---- no other ------------------------------------------------------------------------------------


def others(day: Day, phase: str, wording: str = "no other") -> Finding:
    return found(day, phase, "alerts:", asked(other=wording))


def test_an_alert_nobody_expected_is_a_failure_that_names_it() -> None:
    finding = others(a_day(AUTH, OTHER), "fault:zone")
    says(finding, FAIL, 'DiskFull{host="a"} 4.0 s into the phase')
    assert others(a_day(AUTH, OTHER), "recovery:zone").outcome is PASS
    assert others(a_day(AUTH, OTHER), "baseline").outcome is PASS


def test_one_that_is_allowed_is_none() -> None:
    assert others(a_day(AUTH, OTHER), "fault:zone", "no other but DiskFull").outcome is PASS
    narrow = 'no other but DiskFull{host="b"}'
    assert others(a_day(AUTH, OTHER), "fault:zone", narrow).outcome is FAIL


def test_one_expected_of_the_fault_is_none_only_in_its_phases() -> None:
    assert others(a_day(AUTH), "fault:zone").outcome is PASS
    assert others(Alerting().alert(AUTH, fires=20, ends=25), "baseline").outcome is FAIL
    assert others(Alerting().alert({**AUTH, "zone": "b"}), "fault:zone").outcome is FAIL


def test_one_that_arrives_without_firing_is_a_failure_too() -> None:
    day = a_day(AUTH)
    day.tell(OTHER, 56, "firing", ("oncall",))
    says(others(day, "fault:zone"), FAIL, "DiskFull", "at oncall")


def test_one_that_always_fires_is_none() -> None:
    day = a_day(AUTH)
    day.tell({"alertname": "Watchdog"}, 56, "firing")
    assert others(day, "fault:zone").outcome is PASS


@pytest.mark.parametrize("source", ["watch/alerts", "receiver/slack", "watch/receivers"])
def test_that_there_was_no_other_is_not_known_where_nobody_looked(source: str) -> None:
    assert others(a_day(AUTH).without(without_source(source)), "fault:zone").outcome is UNKNOWN
    assert others(a_day(AUTH, OTHER), "fault:zone").outcome is FAIL


def test_the_record_of_a_receiver_cannot_be_left_out() -> None:
    verdict = judge(asked(other="no other"), a_day().without(
        without_source("receiver/oncall")).evidence())  # fmt: skip
    assert any(gap["source"] == "receiver/oncall" for gap in verdict.gaps)


# ---- evidence taken away -------------------------------------------------------------------------


def test_no_kind_of_line_of_any_link_can_be_left_out_even_with_the_rest_numbered_anew() -> None:
    given = asked(other="no other")
    links = ("watch/alerts", "watch/alertmanager", "watch/receivers", "receiver/")
    kinds = {(e.source, e.kind) for e in a_day().events if e.source.startswith(links)}
    assert len(kinds) == 3 * 3 + 2 * 2
    # That Prometheus and Alertmanager saw what arrived is no more than a second witness.
    kinds -= {("watch/alerts", "sighting"), ("watch/alertmanager", "sighting")}
    for source, kind in sorted(kinds):
        rest = a_day().without(lambda e, s=source, k=kind: (e.source, e.kind) == (s, k))  # type: ignore[misc]
        assert judge(given, rest.evidence()).outcome is not PASS, (source, kind)


def test_no_delivery_can_be_left_out_even_with_the_rest_numbered_anew() -> None:
    deliveries = [e for e in a_day().events if e.kind == "alert.delivery"]
    assert len(deliveries) == 8
    for gone in deliveries:
        rest = a_day().without(lambda e, line=gone.line: e.line == line)  # type: ignore[misc]
        assert judge(asked(), rest.evidence()).outcome is not PASS, gone


# ---- to the second ------------------------------------------------------------------------------


class Exact(Alerting):
    """The zone is lost within [51.5, 52] and taken back within [65.5, 66]; watched to 76."""

    def __post_init__(self) -> None:
        super().__post_init__()
        undone = {"undo.start": 65.5, "undo.done": 66.0}
        self.events = [
            dataclasses.replace(e, t=T0 + undone[e.kind])
            if e.source == "chaos/zone" and e.kind in undone
            else e
            for e in self.events
        ]


LANDED = Landing("zone", T0 + 51.5, T0 + 52.0, ("nodes",), "")
IN_PROMETHEUS = "ServiceDown fires within 8s and resolves within 6s"


def exactly(
    day: Day, alert: str = WORDING, landed: Landing = LANDED, **changes: float
) -> tuple[Finding, Finding]:
    """That it fires, and that it resolves."""
    given = asked(alert)
    case = Case(given, day.evidence())
    objective = next(o for o in given.objectives if isinstance(o, Alert))
    objective = dataclasses.replace(objective, **changes)  # type: ignore[arg-type]
    return judge_fires(case, objective, landed), judge_resolves(case, objective, landed)


def none_other(day: Day, phase: str, wording: str = "no other") -> Finding:
    given = asked(other=wording)
    objective = next(o for o in given.objectives if isinstance(o, NoOtherAlert))
    return judge_no_other(Case(given, day.evidence()), objective, phase)


def figures(finding: Finding) -> tuple[float | None, float | None, float | None]:
    measured = finding.measured
    assert measured is not None, finding.because
    return measured.value, measured.low, measured.high


def test_a_stretch_begins_when_it_was_seen_and_ends_when_it_may_have() -> None:
    firing = Stretch("firing", 9.0, 10.0, (15.0, 16.0))
    instance = Instance(AUTH, (firing, Stretch("inactive", 15.0, 16.0, None)))
    assert [firing.lasts(t) for t in (9.5, 10.0, 12.0, 20.0)] == [0.0, 0.0, 2.0, 5.0]
    assert instance.stretches[1].lasts(20.0) == 4.0
    assert [stretch.end_high for stretch in instance.stretches] == [16.0, None]
    assert [instance.at(t) for t in (9.5, 10.0, 15.5, 16.0)] == ["", "firing", "firing", "inactive"]
    spans = [(10.0, 10.0), (10.5, 20.0), (0.0, 9.5)]
    assert [len(instance.during(*span, "firing")) for span in spans] == [1, 0, 0]
    spans = [(16.0, 20.0), (16.5, 20.0), (0.0, 10.0), (0.0, 9.5)]
    assert [instance.fires(*span) for span in spans] == [True, False, True, False]
    assert Instance(AUTH, (dataclasses.replace(firing, end=None),)).fires(30.0, 40.0)


@pytest.mark.parametrize(
    ("told", "alert", "outcome", "low", "high"),
    [
        (51.5, WORDING, PASS, 0.0, 0.0),
        (51.75, WORDING, PASS, 0.0, 0.25),
        (59.5, WORDING, PASS, 7.5, 8.0),
        (60.0, WORDING, UNKNOWN, 8.0, 8.5),
        (60.25, WORDING, FAIL, 8.25, 8.75),
        (76.0, f"{SELECTOR} fires within 24s to slack, oncall", UNKNOWN, 24.0, 24.5),
    ],
)
def test_what_arrived_from_the_landing_to_the_end_is_timed(
    told: float, alert: str, outcome: Outcome, low: float, high: float
) -> None:
    finding = exactly(Exact().alert(AUTH, told=told - 55), alert)[0]
    says(finding, outcome, "firing in Prometheus 3.5 s after" if outcome is not UNKNOWN else "at")
    assert ("firing in Prometheus" in finding.because) is (outcome is not UNKNOWN)
    assert figures(finding) == (high, low, high)
    assert "the last of" not in finding.because


@pytest.mark.parametrize("told", [51.25, 76.25])
def test_what_arrived_before_or_after_did_not_arrive(told: float) -> None:
    day = Exact().alert(AUTH)
    day.events = [event for event in day.events if event.kind != "alert.delivery"]
    day.tell(AUTH, told, "firing")
    finding = exactly(day)[0]
    says(finding, FAIL, "in Alertmanager 3.5 s after the landing, never delivered to slack")
    assert figures(finding) == (None, 24.0, None)


def test_the_slowest_receiver_counts_and_the_last_alert_is_named() -> None:
    day = Exact().alert(AUTH, receivers=("slack",))
    day.tell(AUTH, 57, "firing", ("oncall",))
    day.tell(FILE, 59, "firing", ("slack",))
    finding = exactly(day)[0]
    says(finding, PASS, "at slack 4.5 s", ", the last of 2 7.5 s after it", "at oncall 5.5 s")
    assert finding.because.count("the last of") == 1
    assert figures(finding) == (5.5, 5.0, 5.5)
    assert finding.required == "at slack, oncall within 8 s of the landing"


def test_of_several_times_the_longest_is_given_and_never_is_longer_than_any() -> None:
    at_once, soon, later, never = (
        Measured(0.0, 0.0, 0.0, "s"),
        Measured(0.5, 0.5, 0.5, "s"),
        Measured(9.0, 9.0, 9.0, "s"),
        Measured(None, 5.0, None, "s"),
    )
    for some in ([at_once, soon], [soon, later], [later, never], [soon, later, at_once]):
        longest = never if never in some else max(some, key=lambda m: m.high or 0.0)
        for given in (some, some[::-1]):
            assert _latest([(FAIL, m, "") for m in given], FAIL) is longest
    assert _latest([(PASS, later, ""), (FAIL, soon, ""), (FAIL, None, "")], FAIL) is soon
    assert _latest([(UNKNOWN, None, "")], UNKNOWN) is None


@pytest.mark.parametrize(
    ("ends", "lost"), [(63.25, True), (63.0, False)], ids=["8 s surely", "perhaps a little less"]
)
def test_one_that_stays_for_just_as_long_as_the_bound_must_arrive(ends: float, lost: bool) -> None:
    day = Exact().alert(AUTH)
    for see, on, off in ((day.in_prometheus, "firing", "inactive"),
                         (day.in_alertmanager, "active", "resolved")):  # fmt: skip
        see(FILE, 55, on)
        see(FILE, ends, off)
    assert exactly(day)[0].outcome is (FAIL if lost else PASS)


@pytest.mark.parametrize("alert", [WORDING, IN_PROMETHEUS])
@pytest.mark.parametrize(("bound_s", "outcome"), [(24.0, FAIL), (24.5, UNKNOWN)])
def test_what_was_not_watched_for_as_long_as_it_may_take_is_unknown(
    alert: str, bound_s: float, outcome: Outcome
) -> None:
    finding = exactly(Exact(), alert, fires_within_s=bound_s)[0]
    says(finding, outcome, "the rule did not fire: ServiceDown was not even pending")
    assert ("watched for only 24.0 s" in finding.because) is (outcome is UNKNOWN)
    assert finding.measured == (Measured(None, 24.0, None, "s") if outcome is FAIL else None)


def test_in_prometheus_it_is_timed_by_what_saw_it() -> None:
    fired, ended = exactly(one_in_prometheus(51.75, 68.0), IN_PROMETHEUS)
    says(fired, PASS)
    assert figures(fired) == (0.25, 0.0, 0.25)
    assert fired.because == "firing in Prometheus 0.0–0.2 s after the landing"
    assert fired.required == "in Prometheus within 8 s of the landing"
    says(ended, PASS)
    assert figures(ended) == (2.5, 1.75, 2.5)
    assert ended.required.startswith("resolved, in Prometheus, within 6 s of the fault")


def one_in_prometheus(fires: float, ends: float, labels: dict[str, str] = AUTH) -> Exact:
    day = Exact()
    day.in_prometheus(labels, fires, "firing")
    day.in_prometheus(labels, ends, "inactive")
    return day


@pytest.mark.parametrize(("first", "second"), [(68.0, 70.0), (70.0, 68.0)])
def test_the_last_to_end_in_prometheus_counts(first: float, second: float) -> None:
    day = one_in_prometheus(55, first)
    day.in_prometheus(FILE, 56, "firing")
    day.in_prometheus(FILE, second, "inactive")
    assert figures(exactly(day, IN_PROMETHEUS)[1]) == (4.5, 3.75, 4.5)


@pytest.mark.parametrize(
    ("ends", "outcome", "low", "high"),
    [(76.0, UNKNOWN, 9.75, 10.5), (76.25, FAIL, 10.0, None), (None, FAIL, 10.0, None)],
)
def test_one_that_still_fires_in_prometheus_at_the_end_has_not_ended(
    ends: float | None, outcome: Outcome, low: float, high: float | None
) -> None:
    """Another one did end."""
    day = one_in_prometheus(55, 68)
    day.in_prometheus(FILE, 55, "firing")
    if ends:
        day.in_prometheus(FILE, ends, "inactive")
    finding = exactly(day, IN_PROMETHEUS, resolves_within_s=10.0)[1]
    assert finding.outcome is outcome
    assert figures(finding) == (high, low, high)
    assert ("still firing in Prometheus" in finding.because) is (outcome is FAIL)


def test_nobody_who_looked_at_prometheus_is_no_pass_without_receivers() -> None:
    blind = one_in_prometheus(55, 68).without(lambda e: e.kind in ("watch.start", "watch.beat"))
    for finding in exactly(blind, IN_PROMETHEUS):
        says(finding, UNKNOWN, "nobody watched alerts")
    fired, ended = exactly(Exact().without(without_source("watch/alerts")), IN_PROMETHEUS)
    says(fired, UNKNOWN, "nobody watched alerts")
    assert fired.measured is None
    says(ended, UNKNOWN, "nobody watched alerts")
    says(exactly(Exact(), IN_PROMETHEUS)[1], UNKNOWN, "it never fired: there is no end to tell")
    before = exactly(one_in_prometheus(30, 67), IN_PROMETHEUS)[0]
    says(before, UNKNOWN, "was firing before the fault landed")


@pytest.mark.parametrize(
    ("told", "outcome", "low", "high", "words"),
    [
        (60.0, PASS, 0.0, 0.0, "before it was taken back"),
        (65.75, PASS, 0.0, 0.25, "resolved 0.2 s after"),
        (71.5, PASS, 5.5, 6.0, "resolved 6.0 s after"),
        (72.0, UNKNOWN, 6.0, 6.5, "resolved 6.5 s after"),
        (72.25, FAIL, 6.25, 6.75, "resolved late: resolved 6.8 s after"),
        (76.0, FAIL, 10.0, 10.5, "resolved late: "),
    ],
)
def test_the_end_told_of_is_timed_from_the_undo(
    told: float, outcome: Outcome, low: float, high: float, words: str
) -> None:
    """Of two alerts the last; the other is told of first, or last."""
    for early in (AUTH, FILE):
        late = FILE if early is AUTH else AUTH
        day = Exact()
        for labels in (AUTH, FILE):
            day.tell(labels, 55, "firing")
        day.tell(early, 59, "resolved")
        day.tell(late, told, "resolved")
        finding = exactly(day)[1]
        says(finding, outcome, words, "told to slack")
        assert figures(finding) == (high, low, high)
        assert finding.required == (
            "resolved, told to slack, oncall, within 6 s of the fault being taken back, "
            "and so still"
        )


@pytest.mark.parametrize(("told", "outcome"), [(66.0, UNKNOWN), (67.0, FAIL), (65.0, PASS)])
def test_an_end_may_be_asked_for_at_once(told: float, outcome: Outcome) -> None:
    day = Exact().alert(AUTH, ends=told, told=0)
    assert exactly(day, resolves_within_s=0.0)[1].outcome is outcome


@pytest.mark.parametrize(("bound_s", "outcome"), [(10.0, FAIL), (10.5, UNKNOWN)])
@pytest.mark.parametrize("told", [51.5, 56.0])
def test_one_never_resolved_fails_once_it_was_watched_for_that_long(
    told: float, bound_s: float, outcome: Outcome
) -> None:
    day = Exact()
    day.tell(AUTH, told, "firing")
    finding = exactly(day, resolves_within_s=bound_s)[1]
    says(finding, outcome, "never resolved: its end was never told to slack, not")
    if outcome is FAIL:
        assert "not 10 s after the fault was taken back" in finding.because
        assert figures(finding) == (None, 10.0, None)
    else:
        assert "watched for only 10.0 s" in finding.because


@pytest.mark.parametrize(
    ("receiver", "offset", "unclear"),
    [
        ("slack", 51.5, True),
        ("slack", 60.0, True),
        ("slack", 76.0, True),
        ("slack", 51.25, False),
        ("slack", 76.25, False),
        ("oncall", 60.0, False),
    ],
)
def test_a_message_nobody_can_read_leaves_unknown_what_it_may_have_told(
    receiver: str, offset: float, unclear: bool
) -> None:
    alert = WORDING.replace("slack, oncall", "slack")
    words = "a message to slack could not be read: no JSON" if unclear else ""
    outcome = UNKNOWN if unclear else FAIL
    day, told = Exact(), Exact()
    told.tell(AUTH, 55, "firing")
    for each in (day, told):
        each.say(f"receiver/{receiver}", offset, "alert.unreadable", receiver=receiver,
                 why="no JSON")  # fmt: skip
    says(exactly(day, alert)[0], outcome, words)
    says(exactly(told, alert)[1], outcome, words)


@pytest.mark.parametrize(
    ("offset", "ends", "outcome"),
    [
        (67.75, 70.0, PASS),
        (68.0, 70.0, UNKNOWN),
        (69.0, 70.0, UNKNOWN),
        (76.0, 70.0, UNKNOWN),
        (76.25, 70.0, PASS),
        (70.0, 72.25, FAIL),
    ],
)
def test_a_message_nobody_can_read_may_have_told_that_it_fires_again(
    offset: float, ends: float, outcome: Outcome
) -> None:
    """One was told to have ended at 68, another later."""
    day = Exact().alert(AUTH).alert(FILE, ends=ends, told=0)
    day.say("receiver/slack", offset, "alert.unreadable", receiver="slack", why="no JSON")
    finding = exactly(day)[1]
    assert finding.outcome is outcome
    assert ("whether for good is not known: " in finding.because) is (outcome is UNKNOWN)
    assert figures(finding) == (ends - 65.5, ends - 66.0, ends - 65.5)


def test_a_fault_that_did_not_land_or_was_not_watched_says_nothing_of_an_alert() -> None:
    nowhere = dataclasses.replace(LANDED, why_not="fault never landed")
    for finding in exactly(Exact().alert(AUTH), landed=nowhere):
        says(finding, UNKNOWN)
        assert finding.because == "fault never landed"

    def recovered(event: Event) -> bool:
        return event.kind == "phase.end" and event.data["phase"] == "recovery:zone"

    fired, ended = exactly(Exact().alert(AUTH).without(recovered))
    says(fired, UNKNOWN, "the recovery was not watched to its end")
    says(ended, UNKNOWN)


def undone(day: Day, fault: str) -> tuple[float, float] | None:
    span = _restored(Case(asked(), day.evidence()), fault)
    return span and (span[0] - T0, span[1] - T0)


def test_a_fault_is_taken_back_from_the_first_undo_to_the_last() -> None:
    day = Exact()
    assert undone(day, "zone") == (65.5, 66.0)
    assert undone(day, "pod") == (45.0, 45.0), "pods are not given back: the hold ends"
    day.say("chaos/zone", 51.75, "fault.start", fault="zone", action="b", targets=[], undo="zone-b")
    assert undone(day, "zone") is None
    says(exactly(day.alert(AUTH))[1], UNKNOWN, "when the fault was taken back is not known")
    day.say("chaos/zone", 67, "undo.done", fault="zone", undo="zone-b")
    assert undone(day, "zone") == (65.5, 67.0)
    for fault in ("pod", "zone"):
        held = Exact().without(
            lambda e: e.kind in ("phase.end", "undo.start") and e.data.get("fault") is not None
        )
        assert undone(held, fault) is None


# ---- who looked ---------------------------------------------------------------------------------


def looked(
    *beats: tuple[float, object, object], period_s: object = 1.0, until: float = 40.0
) -> str:
    """Why Prometheus was not watched from 20 on, by beats of (offset, polls, errors)."""
    day = Exact().without(without_source("watch/alerts"))
    day.say("watch/alerts", 0, "watch.start", observer="alerts", period_s=period_s)
    for offset, polls, errors in beats:
        day.say("watch/alerts", offset, "watch.beat", polls=polls, errors=errors)
    return unwatched(day, until=until)


def unwatched(day: Day, link: tuple[str, str] = PROMETHEUS, until: float = 40.0) -> str:
    return Alerts(Case(asked(), day.evidence())).unwatched(link, T0 + 20.0, T0 + until)


@pytest.mark.parametrize(
    ("blind_to", "period_s", "said"),
    [
        (34.0, 1.0, ""),
        (34.5, 1.0, "watch/alerts saw nothing for 12 s"),
        (34.0, None, ""),
        (34.5, None, "watch/alerts saw nothing for 12 s"),
        (37.0, 5, ""),
        (37.5, 5, "watch/alerts saw nothing for 16 s"),
    ],
)
def test_it_may_fail_to_look_for_so_long_or_three_of_its_periods(
    blind_to: float, period_s: float | None, said: str
) -> None:
    """The last answer before that beat may have come just after 22."""
    answered = [(10, 5, 0), (22, 5, 0), (23, 6, 0)]
    failed = [(blind_to, 7, 1), (38, 8, 1), (45, 9, 1)]
    assert looked(*answered, *failed, period_s=period_s) == said


@pytest.mark.parametrize(
    ("beats", "blind"),
    [
        ([(10, 1, 1), (22, 2, 2), (24, 3, 2), (33, 4, 3), (34, 5, 3), (45, 6, 3)], False),
        ([(10, 0, 0), (22, 0, 0), (24, None, 0), (33, 0, 0), (40, 9, 0)], True),
        # Before and after it may be as blind as it likes.
        ([(10, 0, 0), (20, 0, 0), (32, 0, 0), (33, 1, 0), (40, 2, 0)], False),
        ([(19, 9, 0), (30, 10, 0), (40, 11, 0), (41, 12, 0), (53, 12, 0), (60, 12, 0)], False),
        ([(19, 9, 0), (30, 10, 0), (39.5, 11, 0), (41, 12, 0), (53, 12, 0)], True),
    ],
    ids=["one answer", "no count", "blind before", "blind after", "blind from just before the end"],
)
def test_only_an_answer_is_a_look(beats: list[tuple[float, object, object]], blind: bool) -> None:
    assert ("saw nothing for" in looked(*beats)) is blind


@pytest.mark.parametrize(
    ("beats", "blind"),
    [
        ([], True),
        ([(10, 10, 0), (19, 19, 0), (25, 25, 6), (28, 28, 9)], True),
        ([(10, 10, 0), (20, 20, 0), (25, 25, 5), (28, 28, 8)], True),
        ([(10, 10, 0), (20.25, 20, 0), (25, 25, 5), (28, 28, 8)], False),
        ([(10, 10, 0), (19, 19, 0), (25, 25, 6), (28, 28, 8)], False),
    ],
)
def test_a_short_time_needs_an_answer_since_it_began(
    beats: list[tuple[float, object, object]], blind: bool
) -> None:
    """However short it is: nobody looked again before the end of the run."""
    said = "watch/alerts saw nothing any more" if blind else ""
    assert looked(*beats, until=28.0) == said


def test_an_observer_that_did_not_begin_or_has_lost_lines_saw_nothing() -> None:
    for link, said in ((PROMETHEUS, "nobody watched alerts"),
                       (ALERTMANAGER, "nobody watched alertmanager")):  # fmt: skip
        day = a_day()
        assert unwatched(day, link) == ""
        begun = day.without(lambda e, s=link[0]: e.source == s and e.kind == "watch.start")  # type: ignore[misc]
        assert unwatched(begun, link) == said
    lines = [e for e in day.lines() if not (e.source == "watch/alerts" and e.seq == 2)]
    alerts = Alerts(Case(asked(), a_day().evidence(lines)))
    span = (T0 + 20.0, T0 + 40.0)
    assert alerts.unwatched(PROMETHEUS, *span) == "evidence of watch/alerts is incomplete"
    assert "incomplete" not in alerts.unwatched(ALERTMANAGER, *span)


@pytest.mark.parametrize(
    ("gone", "back", "blind"),
    [
        (20.0, 30.0, True),
        (40.0, 50.0, True),
        (19.0, 20.25, True),
        (19.0, 20.0, False),
        (40.25, 50.0, False),
    ],
)
def test_an_alert_that_could_not_be_seen_for_a_time_may_have_fired(
    gone: float, back: float, blind: bool
) -> None:
    day = Exact()
    for offset, state in ((-1.0, "inactive"), (gone, "unknown"), (back, "inactive")):
        day.in_prometheus(AUTH, offset, state)
    assert ("could not be seen for a time" in unwatched(day)) is blind


def test_one_not_seen_when_the_fault_landed_may_have_fired_before_it() -> None:
    day = Exact()
    for offset, state in ((30, "firing"), (50, "unknown"), (55, "firing"), (67, "inactive")):
        day.in_prometheus(AUTH, offset, state)
    says(exactly(day, IN_PROMETHEUS)[0], UNKNOWN, "could not be seen for a time")


# ---- which alert it was -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known_by", "words", "matched"),
    [
        ("ServiceDown", "title", (A, "critical"), True),
        ("ServiceDown", "title", ("critical",), None),
        ("DiskFull", "title", (A,), False),
        ("ServiceDown", "fingerprint", (), True),
        ("DiskFull", "labels", (A,), False),
    ],
)
def test_a_title_is_of_an_alert_by_its_name_and_values(
    name: str, known_by: str, words: tuple[str, ...], matched: bool | None
) -> None:
    labels = {"alertname": name} | ({} if known_by == "title" else {"zone": A})
    delivery = Delivery("slack", "firing", 1.0, labels, "", known_by, words)
    assert matches(parse_selector(SELECTOR), delivery) is matched


def test_a_title_among_fingerprints_does_not_tell_which_of_several_it_was() -> None:
    day = Exact()
    for labels in (AUTH, FILE):
        day.alert(labels, receivers=("oncall",))
    day.tell(AUTH, 56, "firing", ("slack",))
    titled(day, A, offset=57)
    says(exactly(day)[0], UNKNOWN, "whether all 2 of them did cannot be told from their titles")


@pytest.mark.parametrize("fingerprints", [True, False])
def test_one_that_never_reached_alertmanager_is_lost_whatever_titles_tell(
    fingerprints: bool,
) -> None:
    day = Exact().alert(AUTH, receivers=("slack", "oncall") if fingerprints else ("oncall",))
    day.in_prometheus(FILE, 55, "firing")
    titled(day, A, offset=57)
    finding = exactly(day, WORDING.replace("slack, oncall", "slack"))[0]
    says(finding, FAIL, 'app="file"', "firing in Prometheus too, was never in Alertmanager")


# ---- no other, to the second --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "more"), [(1, ""), (4, ""), (5, "; and 1 more"), (6, "; and 2 more")]
)
def test_the_first_of_many_others_are_named_and_all_are_counted(n: int, more: str) -> None:
    day = Exact()
    for index in range(n):
        day.in_prometheus({"alertname": f"Other{index}"}, 55 + index, "firing")
    finding = none_other(day, "fault:zone")
    assert finding.outcome is FAIL
    named = "; ".join(f"Other{index} {4 + index}.0 s into the phase" for index in range(min(n, 4)))
    assert finding.because == f"not expected: {named}{more}"
    assert figures(finding) == (n, n, n)


def test_a_phase_without_an_end_says_nothing_of_others() -> None:
    for kinds in (("phase.start", "phase.end"), ("phase.end",)):
        day = Exact().without(
            lambda e, k=kinds: e.kind in k and e.data["phase"] == "fault:zone"  # type: ignore[misc]
        )
        says(none_other(day, "fault:zone"), UNKNOWN, "the phase did not run")
    required = "no alert but those expected of the fault"
    assert none_other(Exact(), "fault:zone").required == required
    allowed = none_other(Exact(), "fault:zone", "no other but DiskFull, TargetDown").required
    assert allowed == f"{required}, and DiskFull, TargetDown"


@pytest.mark.parametrize(
    ("offset", "phase"),
    [(50.75, "recovery:pod"), (51.0, "fault:zone"), (65.75, "fault:zone"), (66.0, "recovery:zone")],
)
def test_one_that_begins_as_a_phase_does_is_of_that_phase(offset: float, phase: str) -> None:
    fired, told = Exact(), Exact()
    fired.in_prometheus(OTHER, offset + 0.25, "firing")
    told.tell(OTHER, offset, "firing", ("oncall",))
    for day in (fired, told):
        for other in ("fault:zone", "recovery:zone"):
            assert none_other(day, other).outcome is (FAIL if other == phase else PASS)


@pytest.mark.parametrize(
    ("status", "offset", "outcome"),
    [("firing", 60.0, FAIL), ("resolved", 60.0, PASS), ("firing", 40.0, PASS)],
)
def test_only_what_is_told_to_fire_in_the_phase_and_not_again_is_another(
    status: str, offset: float, outcome: Outcome
) -> None:
    day = Exact()
    day.tell(OTHER, offset, status)
    day.tell(OTHER, 62.0, status)
    finding = none_other(day, "fault:zone")
    assert finding.outcome is outcome
    assert figures(finding)[0] == (2.0 if outcome is FAIL else 0.0)


@pytest.mark.parametrize(("seen", "outcome"), [(71.0, PASS), (71.25, FAIL), (50.0, PASS)])
def test_one_that_began_in_another_phase_counts_there(seen: float, outcome: Outcome) -> None:
    """It is told of at 56; who looks at Prometheus may see it only then, or before."""
    day = Exact().alert(AUTH)
    day.in_prometheus(OTHER, seen, "firing")
    day.tell(OTHER, 56, "firing")
    assert none_other(day, "fault:zone").outcome is outcome


@pytest.mark.parametrize(("told", "outcome"), [(26.0, PASS), (26.25, FAIL)])
def test_one_told_to_have_ended_is_another_when_it_is_told_to_fire_again(
    told: float, outcome: Outcome
) -> None:
    """Prometheus was seen to let it go at 26: what it fired before does not explain it."""
    day = Exact()
    day.in_prometheus(OTHER, 20, "firing")
    day.in_prometheus(OTHER, 26, "inactive")
    day.tell(OTHER, 21, "firing")
    day.tell(OTHER, told, "resolved")
    day.tell(OTHER, 56, "firing")
    assert none_other(day, "fault:zone").outcome is outcome
    assert none_other(day, "baseline").outcome is FAIL
