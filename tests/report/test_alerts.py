"""The report follows every alert from Prometheus to whoever was told, and to its end."""

from __future__ import annotations

from harness.report import documents
from harness.verdict import judge
from tests.report.test_report import Text
from tests.verdict.build import Day, plan
from tests.verdict.test_alerting import AUTH, OTHER, Alerting, asked, titled


def shown(day: Day, given: object = None) -> str:
    chosen = asked() if given is None else given
    evidence = day.evidence()
    content = documents(chosen, evidence, judge(chosen, evidence).to_json())["report.html"]  # type: ignore[arg-type]
    text = Text(content)
    assert text.open == []
    whole = " ".join(text.texts)
    return whole[whole.index("Alerts Each alert") :] if "Alerts Each alert" in whole else ""


def test_each_step_of_an_expected_alert_stands_in_one_row() -> None:
    text = shown(Alerting().alert(AUTH))
    # fires, taken, told to slack and on call; over, and both told so
    steps = "0:55.0 0:55.0 0:56.0 0:56.0 1:07.0 1:08.0 1:08.0"
    assert f'ServiceDown{{app="auth", severity="critical", zone="us-east-1a"}} {steps}' in text
    assert "others that fired" not in text


def test_an_alert_that_never_arrived_has_no_instant_there() -> None:
    text = shown(Alerting().alert(AUTH, receivers=("oncall",)))
    assert "0:55.0 0:55.0 – 0:56.0 1:07.0 – 1:08.0" in text


def test_what_nobody_expected_is_told_apart_and_so_is_what_only_arrived() -> None:
    day = Alerting().alert(OTHER)
    day.tell({"alertname": "Ghost"}, 70, "firing", ("slack",))
    titled(day, "us-east-1b", offset=71)
    text = shown(day)
    assert "None of the alerts the plan expects fired." in text
    assert "3 others that fired or arrived" in text
    assert 'DiskFull{host="a"} 0:55.0' in text and "Ghost – – 1:10.0" in text
    assert "ServiceDown us-east-1b (by its title) – – 1:11.0" in text


def test_where_the_plan_asks_nothing_of_alerts_nothing_is_told_of_them() -> None:
    assert shown(Alerting().alert(AUTH), plan()) == ""
