"""Prometheus's answers are saved whole; one that failed says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from prometheus_standin import Standin, send, success
from sample_target import sample

from harness.clock import ManualClock
from harness.errors import EvidenceError
from harness.evidence.series import read_series
from harness.watch.series import POINTS_MAX, SERIES, fetch_series, pieces

NOW = 1_700_000_000.0


def answer(path, query, to, over) -> None:
    """Two points of one series; `bad` fails, `odd` warns."""
    if query["query"] == "bad":
        send(to, b'{"status":"error","error":"boom"}', status="422 Unprocessable")
        return
    if "[" in query["query"]:
        end = float(query["time"])
        start = end - float(query["query"].partition("[")[2].removesuffix("ms]")) / 1000
        points = [[start, "1"], [start + 0.217, "2"], [end, "3"]]
        send(to, success([{"metric": {"zone": "a"}, "values": points}], "matrix"))
        return
    points = [[float(query["start"]), "1"], [float(query["end"]), "NaN"]]
    warnings = {"warnings": ["slow shard"]} if query["query"] == "odd" else {}
    send(to, success([{"metric": {"zone": "a"}, "values": points}], "matrix", **warnings))


def test_every_query_has_its_file_and_the_judge_can_read_them(tmp_path: Path) -> None:
    standin = Standin(answer)
    table = {"good": "good", "odd": "odd", "bad": "bad"}
    try:
        fetch_series(
            sample(prometheus_url=standin.url),
            tmp_path,
            ManualClock(NOW + 60),
            start=NOW + 0.25,
            table=table,
        )
    finally:
        standin.close()
    found, gaps = read_series(tmp_path / "series")
    assert gaps == []
    assert set(found) == set(table)
    assert found["good"].error == ""
    assert found["good"].result[0].points == ((NOW + 0.25, "1"), (NOW + 59.25, "NaN"))
    assert found["odd"].warnings == ("slow shard",)
    assert "boom" in found["bad"].error
    assert found["bad"].status == "error"
    for path in (tmp_path / "series").iterdir():
        assert os.stat(path).st_mode & 0o777 == 0o600
    document = json.loads((tmp_path / "series" / "good.json").read_text())
    assert (document["step_s"], document["end"], document["fetched_t"]) == (1.0, NOW + 60, NOW + 60)


def test_without_prometheus_every_file_says_why_there_is_nothing(tmp_path: Path) -> None:
    target = sample(prometheus_url="http://127.108.0.90:1")
    index = fetch_series(target, tmp_path, ManualClock(NOW + 9), start=NOW)
    assert [entry["name"] for entry in index["series"]] == list(SERIES)
    found, gaps = read_series(tmp_path / "series")
    assert gaps == []
    assert all(series.error.startswith("unreachable") for series in found.values())
    assert all(series.result == () for series in found.values())


def test_the_range_begins_where_the_run_began(tmp_path: Path) -> None:
    history = [{"kind": "watch.start", "t": NOW - 5}, {"kind": "run.start", "t": NOW - 4.5}]
    lines = [json.dumps(line, separators=(",", ":")) for line in history]
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n")
    target = sample(prometheus_url="http://127.108.0.90:1")
    index = fetch_series(target, tmp_path, ManualClock(NOW), table={"up": "up"})
    (entry,) = index["series"]
    assert (entry["start"], entry["end"]) == (NOW - 4.5, NOW)


def test_a_run_that_never_began_has_no_series(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"kind":"watch.start","t":1}\n')
    with pytest.raises(EvidenceError):
        fetch_series(sample(), tmp_path, ManualClock(NOW))


@pytest.mark.parametrize("duration_s", [0.0, 0.5, 10.0, 10_999.0, 11_000.0, 40_000.0])
def test_pieces_cover_the_grid_once_and_stay_below_the_limit(duration_s: float) -> None:
    seen: list[float] = []
    for first, last in pieces(NOW, NOW + duration_s, 1.0):
        count = round(last - first) + 1
        assert count <= POINTS_MAX
        seen += [first + n for n in range(count)]
    assert seen == [NOW + n for n in range(int(duration_s) + 1)]


def test_counters_are_kept_as_scraped_and_no_sample_twice(tmp_path: Path) -> None:
    standin = Standin(answer)
    target = sample(prometheus_url=standin.url)
    try:
        clock = ManualClock(NOW + 700)
        table = {"gateway_requests": 'requests{service="gateway"}'}
        fetch_series(target, tmp_path, clock, start=NOW, table=table)
        asked = [query["query"] for _, query in standin.asked]
    finally:
        standin.close()
    found, _ = read_series(tmp_path / "series")
    assert asked == [
        'requests{service="gateway"}[600000ms]',
        'requests{service="gateway"}[100000ms]',
    ]
    (line,) = found["gateway_requests"].result
    assert [round(t - NOW, 3) for t, _ in line.points] == [0, 0.217, 600, 600.217, 700]


def test_pieces_of_one_series_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.watch.series.POINTS_MAX", 10)
    standin = Standin(answer)
    target = sample(prometheus_url=standin.url)
    try:
        fetch_series(target, tmp_path, ManualClock(NOW + 24), start=NOW, table={"x": "x"})
        asked = len(standin.asked)
    finally:
        standin.close()
    found, _ = read_series(tmp_path / "series")
    assert asked == 3
    (line,) = found["x"].result
    assert [t - NOW for t, _ in line.points] == [0, 9, 10, 19, 20, 24]


def test_the_time_before_a_run_is_asked_for_in_minutes_and_pieces(tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []

    def month(path, query, to, over) -> None:
        asked.append(query)
        values = [[float(query["start"]), "0"], [float(query["end"]), "1"]]
        send(to, success([{"metric": {}, "values": values}], "matrix"))

    standin = Standin(month)
    target = sample(prometheus_url=standin.url)
    past = {"incidents-1": ("errors > bool 0", 30 * 86_400.0)}
    try:
        fetch_series(target, tmp_path, ManualClock(NOW + 9), start=NOW, table={}, past=past)
    finally:
        standin.close()
    assert len(asked) == 4
    assert {query["query"] for query in asked} == {"max_over_time((errors > bool 0)[60s:15s])"}
    assert {query["step"] for query in asked} == {"60"}
    found, gaps = read_series(tmp_path / "series")
    series = found["incidents-1"]
    assert not gaps
    assert (series.start, series.end, series.step_s) == (NOW - 30 * 86_400, NOW, 60)
    (line,) = series.result
    assert (line.points[0][0], line.points[-1]) == (NOW - 30 * 86_400, (NOW, "1"))
