"""What the driver tells a generator arrives as it was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import PlanInvalid
from harness.load.settings import Settings, from_environment
from harness.plan.rates import constant, ramp


def test_settings_survive_the_environment():
    said = Settings(
        rate=20,
        shape="ramp 10/s to 20/s over 1500ms",
        arrivals="even",
        seed=7,
        mix={"download": 64.0, "upload": 0.5},
        timeout_s=2.5,
        duration_s=12.25,
        run_dir=Path("runs/x"),
        dns_server="127.1.0.53:5353",
        thresholds_s=(0.2, 0.05),
        warm_up_s=3.0,
        behaviour={"verify": 0.1, "hot_objects": 3},
    )
    assert from_environment(said.environment()) == said


def test_an_endless_run_stays_endless():
    assert from_environment(Settings().environment()) == Settings()


def test_nothing_set_means_the_defaults():
    assert from_environment({}) == Settings()


def test_a_rate_may_have_a_shape():
    assert from_environment({"RATE": "123456.789"}).planned == constant(123456.789)
    settings = from_environment({"RATE": "ramp 10/s to 20/s over 2s"})
    assert (settings.rate, settings.planned) == (20, ramp(10, 20, over_s=2))


def test_a_user_may_write_units():
    settings = from_environment({"RATE": "200/s", "TIMEOUT": "5s"})
    assert (settings.rate, settings.timeout_s) == (200, 5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RATE", "fast"),
        ("SEED", "1.5"),
        ("MIX", "download"),
        ("MIX", "a=b"),
        ("HARNESS_BEHAVIOUR", '{"verify": 2}'),
        ("HARNESS_BEHAVIOUR", '{"verfy": 0.1}'),
        ("HARNESS_BEHAVIOUR", "7"),
        ("RATE", "ramp up"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(name, text):
    with pytest.raises(PlanInvalid, match=name):
        from_environment({name: text})


@pytest.mark.parametrize(("closed", "workers"), [(10, 3), (2, 3), (0, 2), (7, 1)])
def test_what_is_kept_going_at_once_is_shared_out_to_the_last(closed, workers):
    shares = [Settings(closed=closed).of_worker(n, workers).closed_share for n in range(workers)]
    assert sum(shares) == closed
    assert max(shares) - min(shares) <= 1
