"""The report shows how each autoscaler took the surge."""

from __future__ import annotations

from harness.report import documents
from harness.verdict import judge
from tests.report.test_report import Text
from tests.verdict.build import LAST, Day, plan
from tests.verdict.test_scaling import a_day, asked


def shown(day: Day, given: object = None) -> str:
    chosen = asked() if given is None else given
    evidence = day.evidence()
    content = documents(chosen, evidence, judge(chosen, evidence).to_json())["report.html"]  # type: ignore[arg-type]
    text = Text(content)
    assert text.open == []
    whole = " ".join(text.texts)
    return whole[whole.index("Scaling The surge") :] if "Scaling The surge" in whole else ""


def test_load_pods_asked_for_there_and_ready_stand_in_order() -> None:
    text = shown(a_day())
    assert "The surge: 0:05.0 to 0:25.0" in text
    assert "hpa:us-east-1a/file : 1 pods before, 2 needed" in text
    for row in (
        "0:05.0 the surge begins 25 30 1 1 1",
        "0:08.0 50 30 2 1 1",
        "0:08.3 50 30 2 2 1",
        "0:10.0 50 30 2 2 2",
        "0:25.0 the surge is over 25 30 2 2 2",
        "0:31.0 12.5 30 1 2 2",
        "0:31.5 12.5 30 1 1 1",
    ):
        assert row in text


def test_an_autoscaler_that_does_nothing_shows_its_load() -> None:
    text = shown(a_day(asks=LAST, ready=LAST, takes=LAST))
    assert "0:25.0 the surge is over 50 30 1 1 1" in text


def test_a_plan_that_asks_nothing_of_scaling_has_no_such_part() -> None:
    assert shown(Day(), plan()) == ""
