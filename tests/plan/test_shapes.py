"""A rate over time is read to the curve its words say."""

from __future__ import annotations

import re

import pytest

from harness.plan.rates import Curve, Piece, constant, diurnal, ramp, spike, steps
from harness.plan.shapes import parse_rate, scaled_to

SHAPES = {
    "200/s": constant(200),
    "ramp 50/s to 500/s over 2m": ramp(50, 500, 120),
    "ramp 0/s to 600/m over 30s": ramp(0, 10, 30),
    "100/s for 30s, then 300/s for 1m": steps(((100, 30), (300, 60))),
    "100/s for 30s then 300/s": Curve((Piece(30, 100, 100), Piece(1, 300, 300))),
    "ramp 0/s to 5/s over 1s, then 5/s for 9s, then ramp 5/s to 1/s over 2s": Curve(
        (Piece(1, 0, 5), Piece(9, 5, 5), Piece(2, 5, 1))
    ),
    "spike 200/s to 2000/s at 60s for 10s": spike(200, 2000, 60, 10),
    "diurnal 50/s to 400/s over 24h, peak at 14h": diurnal(50, 400, 86400, 50400),
}


@pytest.mark.parametrize("text", SHAPES)
def test_the_words_say_the_curve(text: str) -> None:
    assert parse_rate(text) == SHAPES[text]
    assert parse_rate("  ".join(text.split(" "))) == SHAPES[text]


@pytest.mark.parametrize("text", SHAPES)
def test_scaling_changes_the_height_and_nothing_else(text: str) -> None:
    before, after = parse_rate(text), parse_rate(scaled_to(text, 3 * parse_rate(text).peak))
    for t_s in (0, 0.5, 7, 31, 65, 119, 5000, 90000):
        assert after.arrivals_by(t_s) == pytest.approx(3 * before.arrivals_by(t_s))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ramp 50/s", "ramp 50/s to 500/s over 2m"),
        ("ramp 50 to 500 over 2m", "ramp 50/s to 500/s over 2m"),
        ("ramp 50/s to 500/s over 2", "such as 90s"),
        ("100/s for 30s, 300/s for 1m", "100/s for 30s, then 300/s for 1m"),
        ("0/s for 5s, then 0/s", "last rate is zero"),
        ("spike 1/s to 2/s at 0s for 1s", "longer than zero"),
        ("200/s for ever", "100/s for 30s"),
        ("then 5/s", "100/s for 30s"),
        ("fast", "200/s or 600/m"),
        (200, "200/s"),
        (None, "200/s"),
    ],
)
def test_other_words_are_refused_with_what_to_write(text: object, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse_rate(text)
