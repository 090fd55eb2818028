"""The reader of Prometheus never makes a number out of a bad answer, nor waits for one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_standin import HOST, Script, Standin, reply, send, series, success

from harness.clock import ManualClock, SystemClock
from harness.target.prometheus import PrometheusGap, PrometheusReader, is_link_local

NOW = 1_700_000_000.0
TIMEOUT_S = 0.6


@contextmanager
def serving(script: Script) -> Iterator[tuple[PrometheusReader, Standin]]:
    standin = Standin(script)
    reader = PrometheusReader(
        standin.url,
        scrape_interval_s=1.0,
        timeout_s=TIMEOUT_S,
        connect_timeout_s=0.3,
        clock=ManualClock(NOW),
    )
    try:
        yield reader, standin
    finally:
        reader.close()
        standin.close()


def hang(path, query, to, over) -> None:
    over.wait(10)


def drip_body(path, query, to, over) -> None:
    send(to, b"", length=10_000)
    while not over.wait(0.05):
        to.sendall(b" ")


def drip_headers(path, query, to, over) -> None:
    to.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.05):
        to.sendall(b"x")


def truncated(path, query, to, over) -> None:
    body = success([series(NOW, "0.5")])
    send(to, body[:30], length=len(body))


def redirected(path, query, to, over) -> None:
    send(to, b"", status="302 Found", Location=f"http://{HOST}:1{path}")


BAD = {
    "a second series": (reply(success([series(NOW, "1", z="a"), series(NOW, "2")])), "several"),
    "an empty vector": (reply(success([])), "empty"),
    "NaN": (reply(success([series(NOW, "NaN")])), "nan"),
    "+Inf": (reply(success([series(NOW, "+Inf")])), "inf"),
    "-Inf": (reply(success([series(NOW, "-Inf")])), "inf"),
    "a sample an hour old": (reply(success([series(NOW - 3600, "1")])), "stale"),
    "a sample from the future": (reply(success([series(NOW + 60, "1")])), "stale"),
    "a partial answer": (reply(success([series(NOW, "1")], warnings=["one shard"])), "partial"),
    "status error with 200": (reply(b'{"status":"error","error":"boom"}'), "error"),
    "503": (reply(b"overloaded", status="503 Service Unavailable", kind="text/plain"), "error"),
    "422": (reply(b'{"status":"error","error":"x"}', status="422 Unprocessable"), "error"),
    "HTML": (reply(b"<html>login</html>", kind="text/html"), "bad-answer"),
    "JSON of something else": (reply(b'{"hello":"world"}'), "bad-answer"),
    "a JSON list": (reply(b"[]"), "bad-answer"),
    "a matrix": (reply(success([], "matrix")), "bad-answer"),
    "success without data": (reply(b'{"status":"success"}'), "bad-answer"),
    "a malformed sample": (reply(success([{"metric": {}, "value": [NOW]}])), "bad-answer"),
    "a truncated body": (truncated, "bad-answer"),
    "a redirect": (redirected, "bad-answer"),
    "a hang": (hang, "timeout"),
    "a body that drips": (drip_body, "timeout"),
    "headers that drip": (drip_headers, "timeout"),
}


# Several series are what a vector is for.
@pytest.mark.parametrize(
    ("call", "case"),
    [(c, b) for c in ("instant", "vector") for b in BAD if (c, BAD[b][1]) != ("vector", "several")],
)
def test_a_bad_answer_is_a_gap_with_its_reason_within_the_deadline(call: str, case: str) -> None:
    script, reason = BAD[case]
    with serving(script) as (reader, _):
        began = time.monotonic()
        with pytest.raises(PrometheusGap) as caught:
            getattr(reader, call)("sum(x)")
        assert time.monotonic() - began < TIMEOUT_S + 0.3
    assert caught.value.reason == reason
    assert caught.value.hint


def test_a_good_answer_is_its_one_sample() -> None:
    with serving(reply(success([series(NOW - 1, "0.001", zone="a")]))) as (reader, _):
        sample = reader.instant("sum by (zone) (x)")
    assert (sample.labels, sample.t, sample.value) == ({"zone": "a"}, NOW - 1, 0.001)


def test_each_series_of_a_vector_is_judged_not_only_the_first() -> None:
    answer = success([series(NOW, "1", zone="a"), series(NOW, "NaN", zone="b")])
    with serving(reply(answer)) as (reader, _), pytest.raises(PrometheusGap) as caught:
        reader.vector("sum by (zone) (x)")
    assert caught.value.reason == "nan"


def test_samples_come_with_the_instants_of_their_scrapes() -> None:
    line = {"metric": {"zone": "a"}, "values": [[NOW - 1.217, "3"], [NOW - 0.22, "NaN"]]}
    with serving(reply(success([line], "matrix", warnings=["one shard"]))) as (reader, standin):
        answer = reader.samples('x{zone="a"}', NOW - 2.5, NOW)
    assert answer.result == [{"labels": {"zone": "a"}, "points": line["values"]}]
    assert answer.warnings == ("one shard",)
    (_, asked), *_ = standin.asked
    assert (asked["query"], asked["time"]) == ('x{zone="a"}[2500ms]', f"{NOW:.3f}")


@pytest.mark.parametrize(
    "case", [b for b in BAD if BAD[b][1] in ("error", "bad-answer", "timeout")]
)
def test_bad_samples_are_a_gap(case: str) -> None:
    script, reason = BAD[case]
    if case == "a matrix":
        script = reply(success([], "vector"))
    with serving(script) as (reader, _), pytest.raises(PrometheusGap) as caught:
        reader.samples("x", NOW - 1, NOW)
    assert caught.value.reason == reason


def test_a_scalar_is_one_sample() -> None:
    with serving(reply(success([NOW, "42"], "scalar"))) as (reader, _):
        assert reader.instant("scalar(x)").value == 42


@pytest.mark.parametrize(("age_s", "stale"), [(0.5, False), (2.0, False), (2.1, True)])
def test_a_plain_selector_is_as_old_as_its_last_scrape(age_s: float, stale: bool) -> None:
    """Prometheus stamps the answer with the time of the question, whatever the sample's age."""

    def script(path, query, to, over) -> None:
        old = query["query"].startswith("timestamp(")
        send(to, success([series(NOW, str(NOW - age_s) if old else "7")]))

    with serving(script) as (reader, standin):
        if stale:
            with pytest.raises(PrometheusGap) as caught:
                reader.instant('up{job="x"}')
            assert caught.value.reason == "stale"
        else:
            assert reader.instant('up{job="x"}').value == 7
        assert [q["query"] for _, q in standin.asked] == ['up{job="x"}', 'timestamp(up{job="x"})']


def test_an_expression_is_as_old_as_the_selector_it_names() -> None:
    def script(path, query, to, over) -> None:
        old = query["query"].startswith("timestamp(")
        send(to, success([series(NOW, str(NOW - 30) if old else "0.2")]))

    with serving(script) as (reader, _), pytest.raises(PrometheusGap) as caught:
        reader.instant("histogram_quantile(0.95, rate(x[20s]))", fresh="x")
    assert caught.value.reason == "stale"


def test_nobody_there_is_unreachable_at_once() -> None:
    with serving(hang) as (_, standin):
        url = standin.url
    reader = PrometheusReader(url, timeout_s=TIMEOUT_S, clock=ManualClock(NOW))
    began = time.monotonic()
    with pytest.raises(PrometheusGap) as caught:
        reader.instant("up")
    assert caught.value.reason == "unreachable"
    assert time.monotonic() - began < 0.3


def test_a_link_local_address_is_refused_before_anything_is_sent(monkeypatch) -> None:
    """Cloud metadata services live there; a URL in a plan must not reach them."""
    with serving(reply(success([series(NOW, "1")]))) as (reader, standin):
        monkeypatch.setattr("harness.target.prometheus.is_link_local", lambda address: True)
        with pytest.raises(PrometheusGap) as caught:
            reader.instant("sum(x)")
        assert caught.value.reason == "bad-answer"
        assert "link-local" in caught.value.detail
        assert standin.asked == []


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
    ],
)
def test_link_local_addresses_are_known_in_every_spelling(address: str, refused: bool) -> None:
    assert is_link_local(address) is refused


def test_one_question_is_asked_once_whatever_the_answer() -> None:
    with serving(reply(b"no", status="503 Service Unavailable")) as (reader, standin):
        with pytest.raises(PrometheusGap):
            reader.instant("sum(x)")
        assert len(standin.asked) == 1


def test_a_range_keeps_milliseconds_warnings_and_values_as_sent() -> None:
    answer = success(
        [{"metric": {"z": "a"}, "values": [[NOW, "1"], [NOW + 1, "NaN"]]}],
        "matrix",
        warnings=["slow"],
    )
    with serving(reply(answer)) as (reader, standin):
        got = reader.range("x", NOW + 0.25, NOW + 9.75, 0.5)
    assert got.status == "success"
    assert got.warnings == ("slow",)
    assert got.result == [{"labels": {"z": "a"}, "points": [[NOW, "1"], [NOW + 1, "NaN"]]}]
    path, query = standin.asked[0]
    assert path == "/api/v1/query_range"
    assert query == {
        "query": "x",
        "start": "1700000000.250",
        "end": "1700000009.750",
        "step": "0.5",
    }


def test_a_range_without_series_is_an_answer_and_a_failed_one_is_not() -> None:
    with serving(reply(success([], "matrix"))) as (reader, _):
        assert reader.range("x", NOW, NOW + 1, 1).result == []
    with serving(drip_body) as (reader, _), pytest.raises(PrometheusGap) as caught:
        reader.range("x", NOW, NOW + 1, 1)
    assert caught.value.reason == "timeout"


def test_alerts_are_listed_and_a_bad_list_is_a_gap() -> None:
    alert = {"labels": {"alertname": "Down"}, "state": "firing"}
    body = b'{"status":"success","data":{"alerts":[%s]}}'
    with serving(reply(body % json.dumps(alert).encode())) as (reader, standin):
        assert reader.alerts() == [alert]
        assert standin.asked[0][0] == "/api/v1/alerts"
    with serving(reply(b'{"status":"success","data":{}}')) as (reader, _):
        with pytest.raises(PrometheusGap) as caught:
            reader.alerts()
        assert caught.value.reason == "bad-answer"


def test_the_clock_offset_is_measured_in_the_middle_of_the_question() -> None:
    with serving(reply(success([NOW + 3, str(NOW + 3.25)], "scalar"))) as (reader, _):
        assert reader.clock_offset() == (3.25, 0.0)


def test_a_reader_serves_several_threads_at_once() -> None:
    def script(path, query, to, over) -> None:
        send(to, success([series(NOW, query["query"].removeprefix("sum(x)+"))]))

    with serving(script) as (reader, _):
        got: dict[int, float] = {}

        def ask(n: int) -> None:
            got[n] = reader.instant(f"sum(x)+{n}").value

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert got == {n: float(n) for n in range(8)}


def test_a_hung_call_leaves_no_thread_behind() -> None:
    """Otherwise an observer that polls a frozen Prometheus for an hour runs out of threads."""
    with serving(drip_headers) as (reader, _):
        with pytest.raises(PrometheusGap):
            reader.instant("sum(x)")
        clock = SystemClock()
        ends = clock.monotonic_s() + 3
        while any(t.name == "call-within" for t in threading.enumerate()):
            assert clock.monotonic_s() < ends
            clock.sleep(0.02)
