"""Stop conditions: each kind is seen, silence trips, and so does a watcher that is no more."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.chaos import guards as watching
from harness.chaos.conditions import NothingHeard, Seen, checks_of, look_of, stop_files
from harness.chaos.guards import Guards, Trip, Watched, start_guards
from harness.chaos.undo import HISTORY_NAME
from harness.clock import ManualClock, SystemClock
from harness.errors import Refused
from harness.evidence.journal import Journal
from harness.plan import Plan, parse_plan, read_plan
from harness.plan.guards import Guard
from harness.target.model import Target
from harness.target.prometheus import PrometheusGap
from tests.target.prometheus_standin import Standin, send, success
from tests.target.sample_target import sample

from . import trips
from .conftest import Cloud

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "experiments/gamedays/lab.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(LAB)


class Prometheus:
    """Answers ``value`` to the expression and ``scraped_s`` ago to ``timestamp(…)``."""

    def __init__(self) -> None:
        self.values: list[float] = [0.0]
        self.scraped_s: float | None = 0.0
        self.names = ["errors_total"]
        self.standin = Standin(self._answer)
        self.target = replace(sample(), prometheus_url=self.standin.url, scrape_interval_s=1.0)

    def _answer(self, path: str, query: dict[str, str], to: Any, over: threading.Event) -> None:
        now = time.time()
        if path.endswith("/values"):
            send(to, json.dumps({"status": "success", "data": self.names}).encode())
        elif path.endswith("/metadata"):
            send(to, json.dumps({"status": "success", "data": {"hits": []}}).encode())
        elif path.endswith("/rules"):
            groups = [{"rules": [{"name": "errors:rate"}]}]
            send(to, json.dumps({"status": "success", "data": {"groups": groups}}).encode())
        elif query["query"].startswith("timestamp("):
            found = [] if self.scraped_s is None else [now - self.scraped_s]
            send(to, success([{"metric": {}, "value": [now, str(t)]} for t in found]))
        else:
            found = [{"metric": {"n": str(n)}, "value": [now, str(v)]}
                     for n, v in enumerate(self.values)]  # fmt: skip
            send(to, success(found))


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    found = Prometheus()
    yield found
    found.standin.close()


ERRORS = Guard("prometheus", "sum(rate(errors_total[5s]))", line=3, above=0.5)


def test_an_expression_is_breached_by_any_of_its_series(prometheus: Prometheus, plan: Plan) -> None:
    look = look_of(ERRORS, plan, prometheus.target)
    assert look() == Seen(False, "0")
    prometheus.values = [0.5]
    assert not look().breached
    prometheus.values = [0.1, 0.6]
    assert look() == Seen(True, '{n="1"} 0.6')
    below = look_of(replace(ERRORS, above=None, below=0.2), plan, prometheus.target)
    assert below() == Seen(True, '{n="0"} 0.1')


def test_old_samples_and_none_are_no_data(prometheus: Prometheus, plan: Plan) -> None:
    look = look_of(ERRORS, plan, prometheus.target)
    prometheus.scraped_s = 2.5
    with pytest.raises(PrometheusGap, match=r"stale.* 2\.5 s old"):
        look()
    # An expression may give a value of its own (`or vector(0)`) though nothing is scraped.
    prometheus.scraped_s = None
    with pytest.raises(PrometheusGap, match=r"empty.* nothing is scraped"):
        look()
    prometheus.scraped_s, prometheus.values = 0.0, []
    with pytest.raises(PrometheusGap, match="no series"):
        look()
    # What is beyond its bound is so however old.
    prometheus.scraped_s, prometheus.values = 60.0, [0.9]
    assert look().breached


def test_a_kill_switch_is_a_file_that_is_there(tmp_path: Path, plan: Plan) -> None:
    switch = tmp_path / "STOP"
    look = look_of(Guard("file", str(switch), line=0), plan, sample())
    assert not look().breached
    switch.symlink_to("nowhere")
    assert look() == Seen(True, "it is there")
    with pytest.raises(NothingHeard, match="there is no folder"):
        look_of(Guard("file", str(tmp_path / "no/STOP"), line=0), plan, sample())()


def test_every_run_has_kill_switches(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "day" / "2026"
    found = [g.subject for g in stop_files(run_dir, [tmp_path / "mine"])]
    assert found == [str(run_dir / "STOP"), str(tmp_path / "runs/STOP"), str(tmp_path / "mine")]


def test_an_alarm_and_a_parameter_are_asked_of_aws(cloud: Cloud, plan: Plan) -> None:
    import boto3

    keys = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab"}
    at = {"region_name": "us-west-2", "endpoint_url": cloud.target.aws_endpoint_url, **keys}
    ssm, cloudwatch = boto3.client("ssm", **at), boto3.client("cloudwatch", **at)
    go = look_of(Guard("parameter", "/gameday", 1, region="us-west-2"), plan, cloud.target)
    with pytest.raises(Exception, match="ParameterNotFound"):
        go()
    for value, breached in (("run", False), ("run ", False), ("hold", True)):
        ssm.put_parameter(Name="/gameday", Value=value, Type="String", Overwrite=True)
        assert go().breached is breached
    alarm = look_of(Guard("alarm", "5xx", 1, region="us-west-2"), plan, cloud.target)
    with pytest.raises(NothingHeard, match="there is no alarm"):
        alarm()
    cloudwatch.put_metric_alarm(
        AlarmName="5xx", MetricName="m", Namespace="n", Period=60, EvaluationPeriods=1,
        Statistic="Sum", Threshold=1.0, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    for state in ("OK", "ALARM"):
        cloudwatch.set_alarm_state(AlarmName="5xx", StateValue=state, StateReason="test")
        assert alarm() == Seen(state == "ALARM", state)
    cloudwatch.set_alarm_state(AlarmName="5xx", StateValue="INSUFFICIENT_DATA", StateReason="test")
    with pytest.raises(NothingHeard, match="INSUFFICIENT_DATA"):
        alarm()


def test_conditions_of_aws_are_asked_of_the_right_account_only(cloud: Cloud, plan: Plan) -> None:
    other = replace(cloud.target, account="999999999999")
    with pytest.raises(Refused, match="belong to account"):
        look_of(Guard("parameter", "/gameday", 1), plan, other)()


@pytest.mark.parametrize("status", ["disengaged", "engaging", "engaged"])
def test_a_safety_lever_stops_unless_it_is_disengaged(
    status: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"safetyLever": {"id": "default", "state": {"status": status}}}
    asked: list[tuple[Any, ...]] = []

    def aws(target: Target, service: str, region: str) -> Any:
        asked.append((service, region))
        return SimpleNamespace(get_safety_lever=lambda id: answer)

    monkeypatch.setattr("harness.target.connect.aws", aws)
    monkeypatch.setattr("harness.target.connect.check_account", lambda *asked: "1")
    look = look_of(Guard("safety_lever", "us-west-2", 1), plan, sample())
    assert look() == Seen(status != "disengaged", status)
    assert asked == [("fis", "us-west-2")]


def test_a_probe_is_held_to_its_tolerance(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("HARNESS_TARGET", "HARNESS_RUN_DIR"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr("harness.chaos.control.configure_control", lambda fault: None)
    file = tmp_path / "experiment.json"
    probe = {
        "type": "probe", "name": "few", "tolerance": [0, "${most}"],
        "provider": {"type": "python", "module": "os", "func": "getenv",
                     "arguments": {"key": "FEW"}},
    }  # fmt: skip
    probe["tolerance"] = {"type": "regex", "pattern": "^[0-4]$"}
    file.write_text(json.dumps({"title": "t", "method": [probe], "configuration": {}}))
    fault = replace(plan.faults[0], experiment=str(file))
    day = replace(plan, faults=(fault, *plan.faults[1:]))
    look = look_of(Guard("probe", "few", 1, fault=fault.name), day, sample())
    for value, breached in (("4", False), ("5", True)):
        monkeypatch.setenv("FEW", value)
        assert look() == Seen(breached, f"answered {value}")


def test_before_a_run_no_condition_may_be_breached_and_each_must_be_known(
    prometheus: Prometheus, plan: Plan, tmp_path: Path
) -> None:
    def finding(guard: Guard) -> Any:
        ((name, look),) = checks_of([guard], plan, prometheus.target).items()
        assert name in (f"stop_when {guard.text}", f"kill-switch {guard.subject}")
        return look()

    assert finding(ERRORS) == (True, "0", "wait until it is over")
    prometheus.values = [0.9]
    ok, said, _ = finding(ERRORS)
    assert not ok and f"{plan.file}:3" in said
    # There is no traffic yet, so it may have no value.
    prometheus.values, prometheus.scraped_s = [], None
    assert finding(ERRORS)[:2] == (True, "no value yet")
    prometheus.values, prometheus.scraped_s = [0.1], 3.0
    with pytest.raises(PrometheusGap, match="stale"):
        finding(ERRORS)
    switch = tmp_path / "STOP"
    switch.touch()
    assert finding(Guard("file", str(switch), line=0)) == (
        False, "it is there", f"rm {switch}",
    )  # fmt: skip
    assert checks_of([Guard("probe", "p", 1, fault="pod")], plan, prometheus.target) == {}


def test_before_a_run_each_metric_must_be_known(prometheus: Prometheus) -> None:
    text = LAB.read_text() + "stop_when:\n  - prometheus: EXPR\n    above: 1\n"
    line = text.count("\n") - 1

    def finding(expression: str) -> Any:
        plan = parse_plan(text.replace("EXPR", expression), LAB)
        return checks_of(plan.guards, plan, prometheus.target)["metrics"]()

    assert finding("rate(errors_total[5s]) + errors:rate + hits_total")[0] is True
    ok, said, hint = finding("sum(rate(erors_total[5s])) or vector(0)")
    assert not ok and hint == "did you mean 'errors_total'?"
    place = f"experiments/gamedays/lab.yaml:{line}:17 (stop_when[0].prometheus)"
    assert said == f"{place}: Prometheus has no metric erors_total"


def test_before_a_run_the_metrics_of_circuit_breakers_must_be_known(
    prometheus: Prometheus,
) -> None:
    file = LAB.parent / "degradation.yaml"
    text = file.read_text()
    line = text[: text.index("- degradation: ")].count("\n") + 1
    plan = parse_plan(text.replace("image_circuit_breaker_state", "erors_total"), file)
    ok, said, hint = checks_of((), plan, prometheus.target)["metrics"]()
    assert not ok and hint == "did you mean 'errors_total'?"
    assert f"degradation.yaml:{line}" in said and "no metric erors_total" in said
    plan = parse_plan(text.replace("image_circuit_breaker_state", "max(errors_total)"), file)
    assert checks_of((), plan, prometheus.target)["metrics"]()[0] is True


def test_a_run_begins_only_when_each_series_is_beyond_its_bound(prometheus: Prometheus) -> None:
    text = LAB.read_text() + "start_when: [{prometheus: errors_total, below: 5}]\n"
    plan = parse_plan(text, LAB)

    def finding() -> Any:
        return checks_of((), plan, prometheus.target)["start_when errors_total below 5"]()

    prometheus.values = [4.9, 1.0]
    assert finding() == (True, '{n="0"} 4.9, {n="1"} 1', "wait until it is below 5")
    prometheus.values = [1.0, 5.0]
    ok, said, _ = finding()
    place = f"experiments/gamedays/lab.yaml:{text.count(chr(10))}"
    assert not ok and said == f'{{n="1"}} 5 ({place})'
    prometheus.values = []
    with pytest.raises(PrometheusGap, match="empty"):
        finding()
    prometheus.values, prometheus.scraped_s = [1.0], 9.0
    with pytest.raises(PrometheusGap, match="stale"):
        finding()
    assert checks_of((), plan, prometheus.target)["metrics"]()[0] is True


# ── silence ────────────────────────────────────────────────────────────────────────────


def test_silence_trips_once_armed_and_a_breach_at_any_time() -> None:
    clock = ManualClock()
    answers: list[Seen | Exception] = []

    def once() -> Seen:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watched = Watched(replace(ERRORS, no_data_s=5.0), lambda: once, clock)
    text = "sum(rate(errors_total[5s])) above 0.5"
    assert watched.trip(armed=False) is None
    assert watched.trip(armed=True) == Trip(text, "no data: nothing was heard of it yet", 3)
    answers += [NothingHeard("no series"), Seen(False, "0"), NothingHeard("gone")]
    watched.look()
    assert watched.trip(armed=True) == Trip(text, "no data: NothingHeard: no series", 3)
    watched.look()
    clock.advance(5.0)
    watched.look()
    assert watched.trip(armed=True) is None
    clock.advance(0.1)
    assert watched.trip(armed=False) is None
    assert watched.trip(armed=True) == Trip(text, "no data for 5.1 s: NothingHeard: gone", 3)
    answers += [Seen(True, "0.7")]
    watched.look()
    assert watched.trip(armed=False) == Trip(text, "0.7", 3)


def test_a_look_that_hangs_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_DEADLINE_S", 0.01)
    over = threading.Event()
    watched = Watched(ERRORS, lambda: lambda: Seen(over.wait(5), "late"), SystemClock())
    watched.look()
    over.set()
    trip = watched.trip(armed=True)
    assert trip is not None and "no answer within 0.01 s" in trip.why


# ── the watcher ────────────────────────────────────────────────────────────────────────


class Run:
    """A run folder with a watcher that watches its kill switches (and the plan's conditions)."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.dir = trips.run_folder(folder, plan, sample())
        self.trips: list[Trip] = []
        self.tripped = threading.Event()

    def start(self) -> Guards:
        return start_guards(
            self.dir, stop_files(self.dir), target_file=self.dir / "target.yaml",
            on_trip=self._on_trip, clock=SystemClock(),
        )  # fmt: skip

    def _on_trip(self, trip: Trip) -> None:
        self.trips.append(trip)
        self.tripped.set()

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.dir / HISTORY_NAME).read_text().splitlines()]


def test_the_kill_switch_trips_and_is_told(tmp_path: Path, plan: Plan) -> None:
    run = Run(tmp_path, plan)
    guards = run.start()
    guards.wait_ready()
    guards.arm()
    assert not run.tripped.is_set()
    (run.dir / "STOP").touch()
    assert run.tripped.wait(10)
    guards.close()
    (trip,) = run.trips
    assert trip.reason == f"stop condition file {run.dir}/STOP: it is there"
    kinds = [line["kind"] for line in run.history()]
    assert kinds == ["guard.start", "guard.armed", "guard.trip", "guard.end", "source.end"]
    assert run.history()[2]["condition"] == trip.condition and run.history()[3]["tripped"]


def test_ten_of_ten_killed_watchers_trip(tmp_path: Path, plan: Plan) -> None:
    runs = [Run(tmp_path / str(n), plan) for n in range(10)]
    started = [run.start() for run in runs]
    for guards in started:
        guards.wait_ready()
        os.kill(guards.pid, signal.SIGKILL)
    assert all(run.tripped.wait(10) for run in runs)
    for run, guards in zip(runs, started, strict=True):
        guards.close()
        (trip,) = run.trips
        assert trip == Trip("of the watcher", "the process that watches has ended")


def test_a_watcher_that_hangs_trips(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SILENT_S", 0.6)
    run = Run(tmp_path, plan)
    guards = run.start()
    guards.wait_ready()
    os.kill(guards.pid, signal.SIGSTOP)
    assert run.tripped.wait(10)
    guards.close()
    assert "nothing was heard of it for 0.6 s" in run.trips[0].why


def test_a_listener_that_fails_trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Guards, line: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Guards, "_take", fails)
    guards, tripped = speaking("print('{}', flush=True); input()", tmp_path)
    assert tripped.wait(10)
    guards.close()
    assert guards.trip is not None and "No space left" in guards.trip.why


@pytest.mark.parametrize("said", ["nonsense", '{"trip": {"no": 1}}', "[]"])
def test_a_line_that_is_none_trips(said: str, tmp_path: Path) -> None:
    guards, tripped = speaking(f"print({said!r}, flush=True); input()", tmp_path)
    assert tripped.wait(10)
    guards.close()
    assert guards.trip is not None and "it said" in guards.trip.why


def test_a_watcher_that_will_not_arm_trips_before_the_fault(tmp_path: Path) -> None:
    deaf = "import time\nwhile True: print('{}', flush=True); time.sleep(0.05)"
    guards, tripped = speaking(deaf, tmp_path)
    guards.wait_ready()
    guards.arm(within_s=0.2)
    assert tripped.is_set()
    guards.close()


def test_a_watcher_that_does_not_come_up_is_refused(tmp_path: Path) -> None:
    guards, _ = speaking("raise SystemExit(1)", tmp_path)
    with pytest.raises(Refused, match="not watched: the process that watches has ended"):
        guards.wait_ready()


def test_the_end_of_a_run_trips_nothing(tmp_path: Path, plan: Plan) -> None:
    run = Run(tmp_path, plan)
    guards = run.start()
    guards.wait_ready()
    guards.close()
    guards.close()
    assert run.trips == []
    assert [line["kind"] for line in run.history()] == ["guard.start", "guard.end", "source.end"]


def speaking(program: str, folder: Path) -> tuple[Guards, threading.Event]:
    """A watcher that says what ``program`` prints."""
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    tripped = threading.Event()
    on_trip: Callable[[Trip], None] = lambda trip: tripped.set()  # noqa: E731
    journal = Journal(folder / HISTORY_NAME, "guards", SystemClock())
    return Guards(process, (), journal, on_trip), tripped


# ── from the breach to the undo ────────────────────────────────────────────────────────


def test_a_breach_in_prometheus_stops_the_injection_and_undoes(
    cloud: Cloud, tmp_path: Path, plan: Plan
) -> None:
    """One trip here; `make trips` makes a hundred, holds them to a second and prints them."""
    count = int(os.environ.get("HARNESS_TRIPS", "1"))
    taken = trips.measure(cloud, tmp_path, plan, count=count)
    assert cloud.healthy()
    for trip in taken:
        assert trip.outcome in ("interrupted", "aborted")
        assert trip.reason == "stop condition errors above 0.5: 1"
        assert trip.because == f"stopped: {trip.reason}"
        assert trip.tripped_s < trip.undo_began_s < trip.restored_s
    began = [trip.undo_began_s for trip in taken]
    print(f"\nbreach visible → undo begun, {count} trips")
    print(trips.histogram(began))
    p50, p99 = trips.quantile(began, 0.5), trips.quantile(began, 0.99)
    print(f"p50 {p50:.3f} s, p99 {p99:.3f} s, longest {max(began):.3f} s")
    # One trip on a busy machine says little; a hundred are held to what is promised.
    assert p99 <= (1.0 if count >= 100 else 10.0)
