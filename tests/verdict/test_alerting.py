"""Alerts that fire, arrive and end as they must, and every way in which they may not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from harness.evidence.deliveries import fingerprint
from harness.evidence.model import Event
from harness.plan.model import Plan
from harness.verdict import Finding, Outcome, judge
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
