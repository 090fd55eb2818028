"""Every kind of wrong answer of Prometheus, up to the verdict: never a pass, never late.

The truth they distort is that of a simulated day, which passes when Prometheus tells it.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.clock import ManualClock
from harness.evidence.model import Evidence
from harness.evidence.run import read_run
from harness.evidence.series import read_series
from harness.plan.model import OBJECTIVES, Plan
from harness.selftest import past
from harness.selftest.cases import read_days
from harness.selftest.liar import LIES, Liar, Lie, said
from harness.selftest.observers import BEGINS_S
from harness.selftest.simulate import T0, Simulator
from harness.selftest.world import World
from harness.target import preflight
from harness.target.prometheus import PrometheusGap, PrometheusReader
from harness.verdict import Outcome, Verdict, judge
from harness.watch import series as watch_series
from harness.watch.series import fetch_series
from tests.target.sample_target import sample

NOW = T0 + 100.0
DEADLINE_S = 0.25
#: What the issue allows on top of a deadline.
MORE_S = 0.1
HANGING = ("drip", "drip-head", "never")
TRUTH = Lie("truth", "nothing is distorted", said)
#: What a single value cannot show: the value may as well be right.
ONLY_OVER_TIME = ("gappy", "resets", "frozen", "low")


@dataclass(frozen=True)
class Told:
    """A day that passes when Prometheus tells the truth, and the series that is lied about."""

    plan: Plan
    evidence: Evidence
    name: str
    document: dict[str, Any]

    def by_a_liar(self, lie: Lie, folder: Path) -> Verdict:
        """The verdict on the day when that series is fetched anew from a Prometheus that lies."""
        before = {n: query for n, query in self.plan.past_queries.items() if n == self.name}
        known = {**watch_series.SERIES, **self.plan.own_queries}
        table = {} if before else {self.name: known[self.name]}
        with deadline(lie), lying(lie, lambda path: self.document) as liar:
            target = sample(prometheus_url=liar.url)
            fetch_series(target, folder, ManualClock(NOW), start=T0 + BEGINS_S, end=NOW,
                         table=table, past=before)  # fmt: skip
        series, gaps = read_series(folder / "series")
        assert set(series) == {self.name}
        assert not gaps
        changed = {**self.evidence.series, **series}
        return judge(self.plan, dataclasses.replace(self.evidence, series=changed))


#: day → the series that its objectives are judged by, or how its name begins
BY = {
    "losses": "gateway_requests",
    "deliveries": "requests_by_pod",
    "degradation": "breaker-",
    "history": "incidents-",
}
#: Lies that change nothing of what is judged, and cannot be seen: shares of pods that all count too
#: few, or twice, are the same; an open breaker is above zero, however far; an hour of a month is
#: within what may be missing of it.
HARMLESS = {
    "losses": (),
    "deliveries": ("resets", "low", "two-series"),
    "degradation": ("resets", "low", "two-series"),
    "history": ("stale", "future", "resets", "low"),
}


@pytest.fixture(scope="module", params=BY)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return a_day(request.param, tmp_path_factory.mktemp(request.param))


def a_day(name: str, folder: Path) -> Told:
    Simulator(read_days()[name]).write(World(), folder)
    plan = Plan.from_json(json.loads((folder / "plan.json").read_bytes()))
    evidence = read_run(folder)
    (series,) = (known for known in evidence.series if known.startswith(BY[name]))
    found = json.loads((folder / "series" / f"{series}.json").read_text())
    result = [{"metric": x["labels"], "values": x["points"]} for x in found["result"]]
    document = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    return Told(plan, evidence, series, document)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return a_day("losses", tmp_path_factory.mktemp("day"))


def one_value(path: str) -> dict[str, Any]:
    """A sound answer to whatever is asked of the instant ``NOW``."""
    query = parse_qs(urlsplit(path).query).get("query", [""])[0]
    if urlsplit(path).path.endswith("/alerts"):
        return {"status": "success", "data": {"alerts": []}}
    if query == "time()":
        return {"status": "success", "data": {"resultType": "scalar", "result": [NOW, str(NOW)]}}
    value = str(NOW) if query.startswith("timestamp(") else "1"
    series = {"metric": {"instance": "a"}, "value": [NOW, value]}
    return {"status": "success", "data": {"resultType": "vector", "result": [series]}}


@contextmanager
def lying(lie: Lie, truth: Callable[[str], dict[str, Any]]) -> Iterator[Liar]:
    liar = Liar(lie, truth)
    try:
        yield liar
    finally:
        liar.close()


@contextmanager
def deadline(lie: Lie) -> Iterator[None]:
    """Only answers that never come meet the deadline; a busy machine may be slow with others."""
    with pytest.MonkeyPatch.context() as patch:
        if lie.name in HANGING:
            patch.setattr(watch_series, "QUERY_DEADLINE_S", DEADLINE_S)
        yield


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the simulated month is told.
    monkeypatch.setattr(watch_series, "PAST_STEP_S", past.STEP_S)


def test_there_are_at_least_fourteen_kinds_and_every_objective_that_asks_prometheus() -> None:
    assert len({lie.name for lie in LIES}) == len(LIES) >= 14
    asked = {objective.kind for day in BY for objective in read_days()[day].objectives}
    assert {objective.kind for objective in OBJECTIVES} - asked == {"alert", "alerts", "scaling"}


def test_the_truth_passes(told: Told, tmp_path: Path) -> None:
    found = told.by_a_liar(TRUTH, tmp_path).findings
    assert {f.outcome for f in found} == {Outcome.PASS}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_no_lie_makes_a_pass_of_what_is_judged_by_prometheus(
    lie: Lie, told: Told, tmp_path: Path
) -> None:
    found = told.by_a_liar(lie, tmp_path).findings
    by_prometheus = [f for f in found if any(told.name in where for where in f.evidence)]
    assert by_prometheus
    harmless = lie.name in HARMLESS[next(d for d, name in BY.items() if told.name.startswith(name))]
    for finding in by_prometheus:
        assert finding.outcome is (Outcome.PASS if harmless else Outcome.UNKNOWN), finding
        assert finding.because
    # What clients saw does not become worse, nor better, by what Prometheus says.
    assert {f.outcome for f in found if f not in by_prometheus} == {Outcome.PASS}


def calls(reader: PrometheusReader) -> dict[str, Callable[[], Any]]:
    """Every question the reader can put."""
    return {
        "instant": lambda: reader.instant("sum(x)"),
        "vector": lambda: reader.vector("sum(x)"),
        "fresh": lambda: reader.instant("sum(x)", fresh="x"),
        "range": lambda: reader.range("x", NOW - 60, NOW, 1.0),
        "samples": lambda: reader.samples("x", NOW - 60, NOW),
        "alerts": reader.alerts,
        "clock": reader.clock_offset,
    }


def usable(call: str, lie: Lie) -> bool:
    """Whether an answer so distorted is still one to this question, to be judged by who asked."""
    if call in ("range", "samples"):
        # A range is saved whole, with its warnings and its values, and judged later.
        return lie.of == "values" or lie.name in ("empty", "nan", "infinite", "partial")
    if call == "alerts":
        return lie.of != "answer"
    if call == "clock":
        # The value is the clock's: one that is wrong shows as a clock that is.
        return lie.of == "values"
    if call == "fresh":
        return lie.name == "gappy"
    return lie.name in ONLY_OVER_TIME or (call == "vector" and lie.name == "two-series")


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_every_question_ends_in_time_and_in_a_gap(lie: Lie, requests: Told) -> None:
    document = requests.document

    def truth(path: str) -> dict[str, Any]:
        ranged = "query_range" in path or "%5B" in path or "[" in path
        return document if ranged else one_value(path)

    with lying(lie, truth) as liar:
        reader = PrometheusReader(
            liar.url,
            scrape_interval_s=1.0,
            timeout_s=DEADLINE_S,
            connect_timeout_s=DEADLINE_S,
            clock=ManualClock(NOW),
        )
        asked = {name: Asked(call) for name, call in calls(reader).items()}
        for one in asked.values():
            one.thread.join(20)
        reader.close()
    for name, one in asked.items():
        if usable(name, lie):
            assert one.error is None, name
        else:
            assert isinstance(one.error, PrometheusGap), (name, one.error)
            assert (one.error.reason == "timeout") == (lie.name in HANGING), name
        assert one.took_s <= DEADLINE_S + MORE_S, name


class Asked:
    """One question in a thread of its own.

    Its time is the least of three, and it timed out if it did three times: what overruns its
    deadline or hangs does so each time, while a machine that has no processor free for a moment
    does not.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: Exception | None = None
        self.took_s = float("inf")
        self._call = call
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        for _ in range(3):
            began = time.monotonic()
            self.error = None
            try:
                self._call()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
                self.error = error
            self.took_s = min(self.took_s, time.monotonic() - began)
            hung = isinstance(self.error, PrometheusGap) and self.error.reason == "timeout"
            if self.took_s <= DEADLINE_S + MORE_S and not hung:
                return


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_preflight_is_not_content_with_a_lie(lie: Lie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CHECK_DEADLINE_S", DEADLINE_S + 0.5)
    with lying(lie, one_value) as liar:
        target = sample(prometheus_url=liar.url)
        look = preflight._checks(target, ManualClock(NOW))["prometheus"]
        check = preflight._outcome("prometheus", look)
    # Two answers about each target are no reason to refuse, nor is what shows only over time.
    assert (check.ok is True) == (lie.name in ("gappy", "two-series")), check
