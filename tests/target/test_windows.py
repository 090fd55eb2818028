"""A run begins only within the allowed hours of the target, and never into a freeze."""

from __future__ import annotations

from datetime import datetime

import pytest

from harness.target.windows import parse_freeze, parse_hours, why_not_now

WORK = "Mon-Fri 09:00-17:00 Europe/Berlin"
NIGHT = "Sat 22:00-04:00 America/New_York"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("begin", "minutes", "hours", "allowed"),
    [
        ("2026-11-25T09:00+01:00", 10, [WORK], True),
        ("2026-11-25T08:59+01:00", 10, [WORK], False),
        ("2026-11-25T16:50+01:00", 10, [WORK], True),
        ("2026-11-25T16:50+01:00", 11, [WORK], False),
        ("2026-11-28T10:00+01:00", 10, [WORK], False),
        # Nine o'clock in Berlin is another instant in summer.
        ("2026-07-01T07:00+00:00", 10, [WORK], True),
        ("2026-11-25T07:00+00:00", 10, [WORK], False),
        # Saturday night is Sunday in UTC, and goes on after midnight.
        ("2026-11-29T03:30+00:00", 10, [NIGHT], True),
        ("2026-11-29T08:30+00:00", 10, [NIGHT], True),
        ("2026-11-29T08:55+00:00", 10, [NIGHT], False),
        ("2026-11-28T08:30+00:00", 10, [NIGHT], False),
        ("2026-11-29T08:30+00:00", 10, [WORK, NIGHT], True),
        ("2026-11-29T08:30+00:00", 10, [], True),
        ("2026-11-29T08:30+00:00", 10, ["00:00-00:00 UTC"], True),
        ("2026-11-29T23:55+00:00", 10, ["00:00-00:00 UTC"], False),
    ],
)
def test_the_whole_run_must_lie_within_allowed_hours(
    begin: str, minutes: int, hours: list[str], allowed: bool
) -> None:
    found = why_not_now(at(begin), at(begin) + 60 * minutes, hours, ())
    assert (found is None) is allowed
    assert found is None or hours[0] in found


@pytest.mark.parametrize(
    ("begin", "allowed"),
    [
        ("2026-11-23T22:49+00:00", True),
        ("2026-11-23T22:51+00:00", False),
        ("2026-11-25T12:00+00:00", False),
        ("2026-11-30T22:59+00:00", False),
        ("2026-11-30T23:00+00:00", True),
    ],
)
def test_no_run_touches_a_freeze(begin: str, allowed: bool) -> None:
    freeze = "2026-11-24T00:00 to 2026-12-01T00:00 Europe/Berlin"
    found = why_not_now(at(begin), at(begin) + 600, ["00:00-23:59 UTC"], [freeze])
    assert found == (None if allowed else f"the freeze {freeze}")


@pytest.mark.parametrize(
    "text",
    ["", "9-17", "Mon-Fri 09:00-17:00", "Mon-Fry 09:00-17:00 UTC", "Mon 25:00-26:00 UTC",
     "Mon 09:00-17:00 Europe/Berln", "Mon 09:00-17:00 ../etc/passwd"],
)  # fmt: skip
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="; write "):
        parse_hours(text)


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-24 to 2026-11-25", "2026-11-24 to tomorrow UTC", "2026-11-25 to 2026-11-24 UTC",
     "2026-11-24T00:00+01:00 to 2026-11-25 UTC", "2026-11-24 to 2026-11-25 Nowhere"],
)  # fmt: skip
def test_a_freeze_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="; write "):
        parse_freeze(text)
