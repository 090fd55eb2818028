"""A number always comes with its unit."""

from __future__ import annotations

import pytest

from harness.plan.quantities import duration_s, fraction, rate_per_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("1.5h", 5400),
        (" 5m ", 300),
        ("0.5s", 0.5),
        ("30d", 2_592_000),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", [5, 5.0, None, True, "", "5", "5 s", "-5s", "5w", "s", "0s", "0ms", "1e3s", ["5s"]]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|no unit"):
        duration_s(text)


@pytest.mark.parametrize(("text", "rate"), [("200/s", 200), ("600/m", 10), ("0.5 / s", 0.5)])
def test_a_rate_is_read_per_second(text: str, rate: float) -> None:
    assert rate_per_s(text) == rate


@pytest.mark.parametrize("text", [200, "200", "200/h", "/s", "0/s", "-1/s", None, "200s"])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="rate"):
        rate_per_s(text)


@pytest.mark.parametrize(
    ("text", "share"), [("99.9 %", 0.999), ("100%", 1), ("0 %", 0), ("2 %", 0.02)]
)
def test_a_percentage_is_read_as_a_fraction(text: str, share: float) -> None:
    assert fraction(text) == share


@pytest.mark.parametrize("text", ["99.9", "100.1 %", "-1 %", "1.2.3 %", "%", 99, None])
def test_what_is_no_percentage_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"percentage|more than 100"):
        fraction(text)
