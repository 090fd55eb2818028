"""A plan is read to the values it says, and what cannot be right is refused with its place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness.errors import ExitStatus, PlanInvalid
from harness.plan import Plan, parse_plan, plan_for_experiment, plan_for_load, read_plan
from harness.plan.model import (
    Agreement,
    Alert,
    Availability,
    BlueGreen,
    Canary,
    Degradation,
    Durability,
    ErrorRate,
    Failback,
    Failover,
    Latency,
    NoOtherAlert,
    Recovery,
    RollingUpdate,
    Throughput,
)

REPO = Path(__file__).resolve().parents[2]
LAB = REPO / "experiments" / "gamedays" / "lab.yaml"
TEXT = LAB.read_text()


def lab() -> Plan:
    return read_plan(LAB)


def test_objectives_of_deliveries_are_read_to_what_they_say() -> None:
    plan = read_plan(REPO / "experiments" / "gamedays" / "delivery.yaml")
    found = {o.text: o for o in plan.objectives}
    bad = ("bad-errors", "bad-slow", "bad-bytes", "bad-uploads")
    texts = ("canary: withdrawn within 30s", "canary: promoted within 50s")
    for text, ends, within_s, faults in zip(
        texts, ("withdrawn", "promoted"), (30, 50), (bad, ("good",)), strict=True
    ):
        line = found[text].line
        assert found[text] == Canary(text, faults, line, ends, within_s)  # type: ignore[arg-type]
    switched, complete = "blue/green: switched within 20s", "rolling update: complete within 30s"
    assert found[switched] == BlueGreen(switched, ("blue-green",), found[switched].line, 20)
    assert found[complete] == RollingUpdate(complete, ("rolling",), found[complete].line, 30)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bad-canary-slow", "canary: withdrawn within 36s"),
        ("good-canary", "canary: promoted within 60s"),
        ("blue-green", "blue/green: switched within 60s"),
        ("rolling-update", "rolling update: complete within 60s"),
    ],
)
def test_one_delivery_is_judged_by_what_must_become_of_the_version(file: str, text: str) -> None:
    plan = plan_for_experiment(REPO / f"experiments/delivery/{file}.json", hold_s=60)
    assert text in [o.text for o in plan.objectives]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("withdrawn within 30s", "withdrawn in 30s", "canary is written"),
        ("withdrawn within 30s", "withdrawn within 50s", "longer than the 45s"),
        ("complete within 30s", "complete within 41s", "longer than the 40s"),
    ],
)
def test_a_bound_on_a_delivery_that_could_not_be_missed_is_refused(
    old: str, new: str, said: str
) -> None:
    file = REPO / "experiments" / "gamedays" / "delivery.yaml"
    with pytest.raises(PlanInvalid, match=said):
        parse_plan(file.read_text().replace(old, new), file)


def with_objective(text: str) -> Plan:
    return parse_plan(TEXT.replace("objectives:\n", f"objectives:\n  {text}\n"), LAB)


def degradation_of(text: str) -> Plan:
    file = REPO / "experiments" / "gamedays" / "degradation.yaml"
    return parse_plan(file.read_text().replace(*text.split(" => ")), file)


def test_a_degradation_is_read_to_what_it_says() -> None:
    plan = read_plan(REPO / "experiments" / "gamedays" / "degradation.yaml")
    (found,) = (o for o in plan.objectives if isinstance(o, Degradation))
    assert (found.operations, found.faults) == (("image",), ("image",))
    assert (found.within_s, found.at_least, found.whole_within_s) == (6.0, 0.995, 15.0)
    assert plan.own_queries == {found.series_name: "image_circuit_breaker_state"}
    assert found.series_name.startswith("breaker-")
    counted = [o.degraded for o in plan.objectives if isinstance(o, Availability)]
    assert counted == [False, False, True]
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    two = degradation_of("image degraded => image, download degraded")
    assert next(o for o in two.objectives if isinstance(o, Degradation)).operations == (
        "image",
        "download",
    )
    without = degradation_of("    breaker: image_circuit_breaker_state\n => ")
    assert without.own_queries == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("degraded within 6s => degrades within 6s", "degradation is written"),
        ("image degraded => image, image degraded", "names an operation twice"),
        ("image degraded => picture degraded", "no operation sent 'picture'"),
        ("within 6s => within 15s", "longer than the 14s"),
        ("again within 15s => again within 21s", "longer than the 20s"),
        ("breaker: image_circuit_breaker_state => breaker: 7", "not text"),
        ("degraded: counts => degraded: yes", "write degraded: counts"),
        ("    for: [download, upload] =>     breaker: x", "availability has no breaker"),
        ("- durability: no upload lost or altered\n => "
         "- error rate: below 1 %\n    degraded: counts\n", "error rate has no degraded"),
    ],
)  # fmt: skip
def test_a_degradation_that_is_not_understood_is_refused(change: str, message: str) -> None:
    with pytest.raises(PlanInvalid, match=message):
        degradation_of(change)


# ---- read to the right values ------------------------------------------------------------------


def test_the_game_day_of_the_lab_is_read_to_what_it_says() -> None:
    plan = lab()
    assert (plan.version, plan.name) == (1, "lab")
    assert plan.target.service == "http://api.fileservice.lab:8080"
    assert (plan.target.primary, plan.target.standby) == ("us-east-1", "us-west-2")
    assert (plan.traffic.rate, plan.traffic.arrivals, plan.traffic.seed) == (200.0, "poisson", 7)
    assert plan.traffic.mix == {"download": 64, "upload": 12, "image": 15, "list": 6, "delete": 3}
    assert plan.traffic.timeout_s == 5.0
    assert [(f.name, f.hold_s, f.recovery_s) for f in plan.faults] == [
        ("pod", 8, 15),
        ("zone", 20, 20),
        ("region", 30, 35),
    ]
    assert plan.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert plan.text == TEXT


@pytest.mark.parametrize(
    ("wording", "alert", "within_s", "receivers", "resolves_s"),
    [
        ("A fires within 5s", "A", 5.0, (), None),
        ("A fires within 5s to slack", "A", 5.0, ("slack",), None),
        ("A fires within 5s and resolves within 10s", "A", 5.0, (), 10.0),
        ("A{} fires within 40s to slack, on-call and resolves within 20s", "A{}", 40.0,
         ("slack", "on-call"), 20.0),
        ('A{z="x y", n="1"} fires within 5s to mail, and resolves within 10s',
         'A{z="x y", n="1"}', 5.0, ("mail",), 10.0),
    ],
)  # fmt: skip
def test_an_alert_is_read_to_what_it_says(
    wording: str, alert: str, within_s: float, receivers: tuple[str, ...], resolves_s: float | None
) -> None:
    found = with_objective(f"- alert: {wording}\n    of: [zone]").objectives[0]
    assert isinstance(found, Alert)
    assert (found.alert, found.fires_within_s, found.receivers) == (alert, within_s, receivers)
    assert (found.resolves_within_s, found.faults) == (resolves_s, ("zone",))
    assert found.text == f"alert: {wording}"


def test_a_selector_selects_by_name_and_labels_and_leaves_the_rest_open() -> None:
    found = with_objective('- alert: A{z="x y"} fires within 5s').objectives[0]
    assert isinstance(found, Alert)
    assert found.selector.selects({"alertname": "A", "z": "x y", "more": "1"})
    for labels in ({"alertname": "A"}, {"alertname": "B", "z": "x y"}, {"alertname": "A", "z": ""}):
        assert not found.selector.selects(labels)


def test_that_no_other_alert_fires_is_read_to_what_is_allowed() -> None:
    plan = with_objective('- alerts: no other but TargetDown, A{b="c"}\n    in: [baseline]')
    found = plan.objectives[0]
    assert isinstance(found, NoOtherAlert)
    assert (found.allowed, found.phases) == (("TargetDown", 'A{b="c"}'), ("baseline",))
    bare = with_objective("- alerts: no other").objectives[0]
    assert isinstance(bare, NoOtherAlert) and bare.allowed == ()
    assert plan.watches_alerts


@pytest.mark.parametrize(
    ("objective", "place", "message"),
    [
        ("- alert: A fires to slack", "A fires", "is not how alert is written"),
        ("- alert: A{z=1} fires within 5s", "A{z=1}", "is not how alert is written"),
        ("- alert: A fires within 5", "A fires", "not a duration"),
        ("- alert: A fires within 5s to slack, slack", "A fires", "names a receiver twice"),
        ("- alert: A fires within 41s\n    of: [zone]", "A fires", "longer than the 40s"),
        ("- alert: A fires within 5s and resolves within 21s\n    of: [zone]", "A fires",
         "longer than the 20s"),
        ("- alert: A fires within 5s\n    in: [baseline]", "in:", "alert has no in"),
        ("- alerts: none", "none", "is not how alerts is written"),
        ("- alerts: no other\n    of: [zone]", "of:", "alerts has no of"),
    ],
)  # fmt: skip
def test_an_alert_that_is_not_understood_is_refused(
    objective: str, place: str, message: str
) -> None:
    text = TEXT.replace("objectives:\n", f"objectives:\n  {objective}\n")
    with pytest.raises(PlanInvalid, match=message) as refused:
        parse_plan(text, LAB)
    line = text[: text.index(place, text.index("objectives:"))].count("\n") + 1
    assert refused.value.where is not None and refused.value.where.line == line


def test_the_phases_follow_from_the_faults_in_order() -> None:
    assert [(p.name, p.duration_s) for p in lab().phases] == [
        ("baseline", 30),
        ("fault:pod", 8),
        ("recovery:pod", 15),
        ("fault:zone", 20),
        ("recovery:zone", 20),
        ("fault:region", 30),
        ("recovery:region", 35),
        ("cool-down", 20),
    ]
    assert lab().duration_s == 178


def test_each_kind_of_objective_is_read_to_its_figures() -> None:
    found = {}
    for objective in lab().objectives:
        found.setdefault(type(objective), objective)
    steady = ("baseline", "cool-down")
    expected = [
        Availability("availability: at least 99.9 %", steady, 49, 0.999),
        Latency(
            "latency: p95 below 200ms",
            ("baseline", "recovery:pod", "recovery:zone", "cool-down"),
            57,
            0.95,
            0.2,
        ),
        ErrorRate("error rate: below 1 %", steady, 59, 0.01),
        Throughput("throughput: at least 95 % of planned", steady, 61, 0.95),
        Recovery("recovery: within 15s", ("pod", "zone"), 65, 15),
        Failover("failover: within 20s", ("region",), 70, 20),
        Failback("failback: within 25s", ("region",), 73, 25),
        Durability("durability: no upload lost or altered", ("region",), 78, 5),
        Agreement("agreement: client and Prometheus within 2 %", steady, 81, 0.02),
    ]
    lines = TEXT.splitlines()
    for objective in expected:
        mine = found[type(objective)]
        assert mine.text in lines[mine.line - 1]
        kept = {**mine.__dict__, "line": 0}
        assert kept == {**objective.__dict__, "line": 0}
    assert lab().thresholds_s == (0.2,)


def test_an_experiment_is_known_by_its_title_and_its_bytes() -> None:
    fault = lab().fault("zone")
    raw = (REPO / fault.experiment).read_bytes()
    assert fault.sha256 == hashlib.sha256(raw).hexdigest()
    assert fault.title == json.loads(raw)["title"]
    with pytest.raises(KeyError):
        lab().fault("sun")


def test_a_rate_on_the_command_line_overrides_the_plan() -> None:
    assert read_plan(LAB, rate="600/m").traffic.rate == 10
    with pytest.raises(PlanInvalid, match="'fast' is not a rate"):
        read_plan(LAB, rate="fast")


def test_a_rate_that_changes_keeps_its_shape_under_another_peak() -> None:
    words = "ramp 50/s to 500/s over 2m, then 500/s for 1m, then 50/s"
    text = TEXT.replace("rate: 200/s", f"rate: {words}")
    plan = parse_plan(text, LAB)
    assert (plan.traffic.rate, plan.traffic.shape) == (500, words)
    assert plan.traffic.curve.arrivals_by(120) == 275 * 120
    assert json.loads(json.dumps(plan.to_json()))["traffic"]["shape"] == words
    higher = parse_plan(text, LAB, rate="1000/s").traffic
    assert higher.shape == "ramp 100/s to 1000/s over 2m, then 1000/s for 1m, then 100/s"
    assert (higher.rate, higher.curve.arrivals_by(120)) == (1000, 550 * 120)
    other = parse_plan(text, LAB, rate="spike 10/s to 20/s at 5s for 1s").traffic
    assert (other.rate, other.curve.rate_at(4)) == (20, 10)


def test_a_constant_rate_is_recorded_as_it_always_was() -> None:
    keys = {"locustfile", "rate", "arrivals", "seed", "mix", "timeout_s"}
    assert set(lab().to_json()["traffic"]) == keys
    held = parse_plan(TEXT.replace("rate: 200/s", "rate: 200/s for 5s, then 200/s"), LAB)
    assert held.traffic == lab().traffic


def test_no_phases_named_means_all_of_them() -> None:
    text = TEXT.replace("  - error rate: below 1 %\n    in: [baseline, cool-down]\n", "")
    plan = parse_plan(text + "  - error rate: below 1 %\n", LAB)
    assert plan.objectives[-1].phases == tuple(p.name for p in plan.phases)


def test_a_plan_without_faults_has_a_baseline_and_nothing_else() -> None:
    plan = plan_for_load("20/s", 12.5)
    assert [(p.name, p.duration_s) for p in plan.phases] == [("baseline", 12.5)]
    assert plan.traffic.rate == 20
    assert {o.kind for o in plan.objectives} >= {"availability", "latency", "durability"}


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("experiments/pods/kill-file-pods.json", set()),
        ("experiments/region/lose-us-east-1.json", {"failover", "failback"}),
    ],
)
def test_a_plan_for_one_experiment_judges_what_it_can_break(file: str, kinds: set[str]) -> None:
    plan = plan_for_experiment(REPO / file, hold_s=9, recovery_s=11)
    assert [f.experiment for f in plan.faults] == [file]
    assert (plan.faults[0].hold_s, plan.faults[0].recovery_s) == (9, 11)
    found = {o.kind for o in plan.objectives}
    assert found & {"failover", "failback"} == kinds
    assert "recovery" in found


def behaving() -> Plan:
    said = """  seed: 7
  sessions: {steps: 4, think: 1500ms}
  hot: {share: 20 %, objects: 3}
  verify: 10 %
  resumed: {share: 5 %, interrupted: 25 %}
"""
    return parse_plan(TEXT.replace("  seed: 7\n", said), LAB)


def test_how_users_behave_is_read_and_what_is_not_said_is_left_to_the_locustfile() -> None:
    assert behaving().traffic.behaviour == {
        "steps": 4.0,
        "think_s": 1.5,
        "hot_share": 0.2,
        "hot_objects": 3,
        "verify": 0.1,
        "resumed": 0.05,
        "interrupted": 0.25,
    }
    assert lab().traffic.behaviour == {}


@pytest.mark.parametrize(
    "plan",
    [
        lab(),
        behaving(),
        lab().with_recorded(expected={"dns_changed_s": {"value_s": 5.0}}, versions={"a": "1"}),
        plan_for_load("20/s", 10),
        plan_for_load("100/s for 5s, then ramp 100/s to 50/s over 5s", 10),
        plan_for_experiment(REPO / "experiments/region/lose-us-east-1.json"),
    ],
    ids=["lab", "behaving", "recorded", "load", "shaped", "experiment"],
)
def test_a_plan_survives_json_unchanged(plan: Plan) -> None:
    document = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(document) == plan
    assert Plan.from_json(document).to_json() == plan.to_json()


def test_what_is_recorded_cannot_overwrite_the_plan() -> None:
    with pytest.raises(ValueError, match="traffic"):
        lab().with_recorded(traffic={})


@pytest.mark.parametrize("workers", [4, "auto"])
def test_a_plan_says_how_many_workers_send(workers):
    text = TEXT.replace("  seed: 7\n", f"  seed: 7\n  workers: {workers}\n")
    plan = parse_plan(text, LAB)
    assert plan.traffic.workers == workers
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    # One needs no word, in the plan or in what is recorded of it.
    assert lab().traffic.workers == 1
    assert "workers" not in lab().to_json()["traffic"]


# ---- refused, with the place ---------------------------------------------------------------------

#: what is replaced, by what, text on the line reported, words of the message, of the hint
MUTATIONS = {
    "unknown key": ("name: lab", "nmae: lab", "nmae", "unknown key 'nmae'", "'name'"),
    "unknown key inside": ("  seed: 7", "  sed: 7", "sed: 7", "unknown key 'sed'", "'seed'"),
    "missing key": ("name: lab\n", "", "version: 1", "'name' is missing", "add a line name"),
    "duplicate key": ("  seed: 7", "  seed: 7\n  seed: 8", "seed: 8", "duplicate", "keep one"),
    "wrong version": ("version: 1", "version: 2", "version: 2", "not a version", "version: 1"),
    "name with blanks": ("name: lab", "name: my lab", "my lab", "not a name", "small letters"),
    "not a URL": ("http://api", "api", "service:", "not a URL", "https://"),
    "same region": ("standby: us-west-2", "standby: us-east-1", "standby", "same", "name two"),
    "rate without unit": ("rate: 200/s", "rate: 200", "rate:", "no unit", "200/s"),
    "rate with wrong unit": ("rate: 200/s", "rate: 200/d", "rate:", "not a rate", "600/m"),
    "rate of zero": ("rate: 200/s", "rate: 0/s", "rate:", "above zero", "lab.yaml"),
    "rate with keys": ("rate: 200/s", "rate: {ramp: 1/s}", "rate:", "in words", "ramp 50/s to"),
    "half a ramp": ("rate: 200/s", "rate: ramp 5/s to 9/s", "rate:", "'ramp 5/s to", "over 2m"),
    "a spike that never ends": ("rate: 200/s", "rate: spike 1/s to 2/s at 1s", "rate:", "how",
                                "for 10s"),
    "a day without peak": ("rate: 200/s", "rate: diurnal 1/s to 2/s over 1h", "rate:", "how",
                           "peak at"),
    "a rate after one without end": ("rate: 200/s", "rate: 5/s, then 9/s", "rate:", "for ever",
                                     "5/s for 30s"),
    "a ramp to nothing": ("rate: 200/s", "rate: ramp 5/s to 0/s over 1m", "rate:", "never go on",
                          "lab.yaml"),
    "unknown arrivals": ("arrivals: poisson", "arrivals: bursty", "arr", "bursty", "even"),
    "no workers": ("  seed: 7", "  seed: 7\n  workers: 0", "workers: 0", "not a number of workers",
                   "auto, or 1 to"),
    "workers as text": ("  seed: 7", "  seed: 7\n  workers: many", "workers:", "'many'", "auto"),
    "seed as text": ("seed: 7", "seed: seven", "seed", "not a seed", "whole number"),
    "seed as yes": ("seed: 7", "seed: true", "seed", "not a seed", "whole number"),
    "unknown operation": ("mix: {download", "mix: {downlod", "mix", "downlod", "'download'"),
    "negative share": ("download: 64", "download: -1", "mix", "not a share", "such as 12"),
    "verify of nothing": ("  seed: 7", "  seed: 7\n  verify: 0 %", "verify", "verify", "0.0001"),
    "verify without unit": ("  seed: 7", "  seed: 7\n  verify: 0.1", "verify", "percent", "99.9 %"),
    "unknown part of hot": (
        "  seed: 7",
        "  seed: 7\n  hot: {sharre: 20 %}",
        "hot:",
        "'sharre'",
        "'share'",
    ),
    "hot objects": (
        "  seed: 7",
        "  seed: 7\n  hot: {share: 20 %, objects: 1.5}",
        "objects",
        "whole number",
        "such as 3",
    ),
    "hot without parts": ("  seed: 7", "  seed: 7\n  hot: 20 %", "hot:", "keys of", "indent"),
    "steps below one": (
        "  seed: 7",
        "  seed: 7\n  sessions: {steps: 0.5}",
        "sessions",
        "0.5 is no steps",
        "from 1",
    ),
    "thinking without unit": (
        "  seed: 7",
        "  seed: 7\n  sessions: {think: 7}",
        "sessions",
        "no unit",
        "7s",
    ),
    "every part interrupted": (
        "  seed: 7",
        "  seed: 7\n  resumed: {share: 5 %, interrupted: 100 %}",
        "resumed",
        "no interrupted",
        "0.9",
    ),
    "empty mix": (
        "{download: 64, upload: 12, image: 15, list: 6, delete: 3}",
        "{}",
        "mix",
        "add up to nothing",
        "give one",
    ),
    "mix of zeros": (
        "{download: 64, upload: 12, image: 15, list: 6, delete: 3}",
        "{download: 0}",
        "mix",
        "add up to nothing",
        "give one",
    ),
    "mix without keys": (
        "{download: 64, upload: 12, image: 15, list: 6, delete: 3}",
        "64",
        "mix",
        "must have keys",
        "indent",
    ),
    "missing locustfile": ("mixed.py", "mixd.py", "locustfile", "no file", "mixed.py"),
    "duration without unit": ("timeout: 5s", "timeout: 5", "timeout", "no unit", "5s"),
    "duration with wrong unit": ("baseline: 30s", "baseline: 30sec", "baseline", "not a d", "90s"),
    "negative duration": ("baseline: 30s", "baseline: -30s", "baseline", "not a duration", "90s"),
    "no duration": ("baseline: 30s", "baseline: 0s", "baseline", "longer than zero", "lab.yaml"),
    "two faults of a name": ("- name: zone", "- name: pod", "name: pod", "two faults", "rename"),
    "fault called all": ("- name: zone", "- name: all", "name: all", "not a name", "letters"),
    "missing experiment": ("lose-us-east-1a", "lose-us-east-1z", "1z", "no file", "1a.json"),
    "not an experiment": (
        "experiments/zones/lose-us-east-1a.json",
        "dashboards",
        "dashboards",
        "no file",
        "check the path",
    ),
    "faults not a list": ("faults:\n", "faults:\n  x: 1\ny:\n", "y:", "unknown key 'y'", "one"),
    "unknown phase": ('"recovery:pod", "rec', '"recovery:pot", "rec', "pot", "no phase", ":pod"),
    "unknown fault": ("of: [pod, zone]", "of: [pod, zoen]", "zoen", "no fault 'zoen'", "'zone'"),
    "phase named twice": ("in: [baseline, cool-down]", "in: [baseline, baseline]", "in:", "once",
                          "remove"),
    "no phase": ("in: [baseline, cool-down]", "in: []", "in:", "each phase once", "remove"),
    "in for a recovery": ("of: [pod, zone]", "in: [pod, zone]", "in:", "has no in", "takes of"),
    "of for a latency": ("p95 below 200ms\n    in:", "p95 below 200ms\n    of:", "of:", "has no of",
                         "takes in"),
    "rpo where none is": ("within 15s\n", "within 15s\n    rpo: 5s\n", "rpo", "has no rpo", "of"),
    "percent above 100": ("least 99.9 %", "least 101 %", "101", "more than 100", "lab.yaml"),
    "percent missing": ("least 99.9 %", "least 99.9", "99.9", "not a percentage", "99.9 %"),
    "weaker wording": ("at least 99.9 %", "about 99.9 %", "about", "not how", "at least 99.9 %"),
    "p100": ("p95 below", "p100 below", "p100", "not how latency", "p95 below 200ms"),
    "p0": ("p95 below", "p0 below", "p0 below", "not a percentile", "between p1"),
    "latency without unit": ("below 200ms", "below 200", "below 200", "not a duration", "250ms"),
    "unknown objective": ("- throughput:", "- thruput:", "thruput", "unknown key", "'throughput'"),
    "bound never missed": ("failover: within 20s", "failover: within 31s", "31s", "longer than the"
                           " 30s", "shorten"),
    "two objectives in one": ("  - throughput: ", "    throughput: ", "in:", "duplicate", "keep"),
    "two in one entry": ("  - error rate: below 1 %\n    in: [baseline, cool-down]\n  - throughput",
                         "  - error rate: below 1 %\n    throughput", "throughput",
                         "two objectives", "new '- '"),
    "tab": ("  seed: 7", "\tseed: 7", "seed: 7", "", "indentation"),
    "open bracket": ("in: [baseline, cool-down]", "in: [baseline", "", "", "indentation"),
    "open quote": ("name: lab", 'name: "lab', "", "", "quotes"),
}  # fmt: skip


@pytest.mark.parametrize("case", MUTATIONS)
def test_a_plan_with_a_mistake_is_refused_with_its_place_and_a_hint(case: str) -> None:
    old, new, on_line, message, hint = MUTATIONS[case]
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(text, LAB)
    error = caught.value
    assert error.exit_status is ExitStatus.PLAN_INVALID
    assert error.where and error.where.line
    assert error.where.file.endswith("lab.yaml")
    reported = [*text.splitlines(), ""][error.where.line - 1]
    assert on_line in reported, f"line {error.where.line}: {reported!r}: {error}"
    assert message in error.message
    assert error.hint and hint in error.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mapping"),
        ("- 1\n", "mapping"),
        ("just words\n", "mapping"),
        ("a: \x00\n", "YAML"),
        ("version: 1\nname: x\ntarget: y\ntraffic: z\nbaseline: 5s\nobjectives: []\n", "keys of"),
    ],
)
def test_what_is_no_plan_at_all_is_refused(text: str, words: str) -> None:
    with pytest.raises(PlanInvalid, match=words):
        parse_plan(text, LAB)


def test_a_plan_without_objectives_is_refused() -> None:
    text = TEXT.partition("objectives:")[0] + "objectives: []\n"
    with pytest.raises(PlanInvalid, match="decides nothing"):
        parse_plan(text, LAB)


def test_faults_that_are_no_list_are_refused() -> None:
    head, _, rest = TEXT.partition("faults:\n")
    text = head + "faults: none\ncool_down" + rest.partition("cool_down")[2]
    with pytest.raises(PlanInvalid, match="'faults' must be a list") as caught:
        parse_plan(text, LAB)
    assert "'- '" in caught.value.hint


def test_a_plan_that_is_not_there_or_is_not_text_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "plan.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path, binary):
        with pytest.raises(PlanInvalid, match="cannot be read") as caught:
            read_plan(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not JSON"), ("[]", "no method"), ('{"title": "x"}', "no method"), ("\xff", "JSON")],
)
def test_an_experiment_that_is_none_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "broken.json").write_text(content)
    text = TEXT.replace("experiments/zones/lose-us-east-1a.json", str(tmp_path / "broken.json"))
    with pytest.raises(PlanInvalid, match=words) as caught:
        parse_plan(text, LAB)
    assert caught.value.hint


def test_an_experiment_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_bytes(b"\xff\xff")
    text = TEXT.replace("experiments/zones/lose-us-east-1a.json", str(tmp_path / "broken.json"))
    with pytest.raises(PlanInvalid, match="not readable"):
        parse_plan(text, LAB)


@pytest.mark.parametrize(
    ("rate", "duration_s", "scrape_s", "percent"),
    [
        ("200/s", 60, 1, 2),
        ("60/s", 12, 1, 10),
        ("200/s", 15, 1, 5),
        ("200/s", 60, 15, 5),
        ("10000/s", 60, 15, 2),
        ("1/s", 5, 1, 20),
    ],
)
def test_a_plan_nobody_wrote_asks_for_as_close_an_agreement_as_it_can_tell(
    rate: str, duration_s: float, scrape_s: float, percent: int
) -> None:
    plan = plan_for_load(rate, duration_s, scrape_interval_s=scrape_s)
    agreement = next(o for o in plan.objectives if isinstance(o, Agreement))
    assert agreement.within == percent / 100
