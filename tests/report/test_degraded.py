"""The report shows what those got who asked a service that was stopped."""

from __future__ import annotations

from harness.report import documents
from harness.verdict import judge
from tests.report.test_report import Text
from tests.verdict.build import Day, plan
from tests.verdict.test_degradation import Stopped, asked


def shown(day: Day, given: object = None) -> str:
    chosen = asked() if given is None else given
    evidence = day.evidence()
    content = documents(chosen, evidence, judge(chosen, evidence).to_json())["report.html"]  # type: ignore[arg-type]
    text = Text(content)
    assert text.open == []
    return " ".join(text.texts)


def test_each_stretch_says_what_was_asked_for_and_what_was_given() -> None:
    text = shown(Stopped())
    assert "Degradation Degraded is what the service itself said" in text
    for row in (
        "baseline 0:00.0 – 0:40.0 1,920 1,920 0 0 0",
        "until it must degrade (3 s) 0:51.0 – 0:55.0 192 84 96 stale 12 0",
        "until it was taken back 0:55.0 – 1:05.0 480 0 480 stale 0 0",
        "until the last degraded answer 1:05.0 – 1:07.0 96 0 96 stale 0 0",
        "until the recovery's end 1:07.0 – 1:16.0 432 432 0 0 0",
    ):
        assert row in text, row
    assert "The first circuit breaker opened between 0:52.3 and 0:53.3" in text
    assert "the last closed between 1:07.3 and 1:08.3" in text
    # Among the figures, in the drawing, and under the availability.
    assert "Planned Sent Degraded Availability" in text
    assert "degraded 48/s" in text
    assert "more degraded" in text


def test_what_breakers_did_is_said_or_that_nothing_is_known() -> None:
    assert "Of circuit breakers nothing was asked." in shown(Stopped(), asked(breaker=""))
    assert "No circuit breaker opened." in shown(Stopped().breaker(lambda o: False))
    assert "not all closed again" in shown(Stopped().breaker(lambda o: o >= 52.6))
    empty = shown(Stopped().breaker(lambda o: False, result=()))
    assert "Of the circuit breakers nothing can be told: breaker-" in empty
    never = Stopped().without(lambda e: str(e.data.get("subject")).endswith("/image"))
    assert "Nothing can be told: fault never landed" in shown(never)


def test_a_run_that_degrades_nowhere_says_nothing_of_it() -> None:
    text = shown(Day(), plan())
    assert "Degradation Degraded is" not in text
    assert "Sent Availability" in text and "more degraded" not in text
