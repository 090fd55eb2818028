"""The gateway's circuit breaker, and what is shown instead of a picture that cannot be had."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from services_world import World, call, until

from harness.lab.services.breaker import LEAST, OPEN_S, TRIALS, CircuitBreaker
from harness.lab.services.degraded import KEPT, KEPT_BYTES, Fallback


def failed(breaker: CircuitBreaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.allows(now_s)
        breaker.ended(False, now_s)


def opened(**defects: bool) -> CircuitBreaker:
    breaker = CircuitBreaker(**defects)
    failed(breaker, 0.0, LEAST)
    return breaker


def test_a_breaker_opens_when_half_of_the_last_calls_failed_and_not_before() -> None:
    breaker = CircuitBreaker()
    for _ in range(LEAST):
        assert breaker.allows(0.0)
        breaker.ended(True, 0.0)
    failed(breaker, 0.0, LEAST - 1)
    assert breaker.state == "closed"
    failed(breaker, 0.0)
    assert (breaker.state, breaker.level, breaker.opened) == ("open", 2.0, 1)
    assert not breaker.allows(OPEN_S - 0.1)


def test_too_few_calls_open_nothing_and_one_nobody_waited_for_says_nothing() -> None:
    breaker = CircuitBreaker()
    failed(breaker, 0.0, LEAST - 1)
    breaker.ended(None, 0.0)
    assert breaker.state == "closed"


def test_after_a_while_a_few_calls_are_tried_and_good_ones_close_it() -> None:
    breaker = opened()
    for _ in range(TRIALS):
        assert breaker.allows(OPEN_S)
    assert breaker.state == "half-open" and not breaker.allows(OPEN_S)
    for _ in range(TRIALS):
        assert breaker.state == "half-open"
        breaker.ended(True, OPEN_S)
    assert breaker.state == "closed" and breaker.level == 0.0
    # What was before is forgotten: it takes as many failures as at first.
    failed(breaker, OPEN_S, LEAST - 1)
    assert breaker.state == "closed"


def test_a_bad_trial_opens_it_again_and_an_abandoned_one_is_tried_anew() -> None:
    breaker = opened()
    assert breaker.allows(OPEN_S)
    breaker.ended(None, OPEN_S)
    for _ in range(TRIALS):
        assert breaker.allows(OPEN_S)
    breaker.ended(False, OPEN_S)
    assert breaker.state == "open" and not breaker.allows(2 * OPEN_S - 0.1)
    assert breaker.allows(2 * OPEN_S)


def test_the_seeded_defects_do_what_they_say() -> None:
    assert opened(opens=False).state == "closed"
    assert not opened(closes=False).allows(1000 * OPEN_S)


def test_each_is_shown_what_it_was_allowed_to_see_and_a_placeholder_otherwise() -> None:
    fallback = Fallback()
    fallback.keep("anna", "/v1/images/a?w=200", b"picture")
    kind, answer = fallback.answer("anna", "/v1/images/a?w=200", 200)
    assert (kind, answer.body) == ("stale", b"picture")
    assert (b"x-degraded", b"stale") in answer.headers
    assert (b"cache-control", b"no-store") in answer.headers
    kind, answer = fallback.answer("bela", "/v1/images/a?w=200", 200)
    assert kind == "placeholder" and (b"x-degraded", b"placeholder") in answer.headers
    assert isinstance(answer.body, bytes)
    assert Image.open(io.BytesIO(answer.body)).size == (200, 150)


def test_no_more_than_a_few_small_pictures_are_kept() -> None:
    fallback = Fallback()
    fallback.keep("anna", "large", bytes(KEPT_BYTES + 1))
    for number in range(KEPT + 1):
        fallback.keep("anna", str(number), b"picture")
    kinds = [fallback.answer("anna", name, 64)[0] for name in ("large", "0", "1", str(KEPT))]
    assert kinds == ["placeholder", "placeholder", "stale", "stale"]


def test_a_placeholder_that_is_served_silently_says_nothing() -> None:
    kind, answer = Fallback(silent=True).answer("anna", "a", 64)
    assert kind == "placeholder" and b"x-degraded" not in dict(answer.headers)


@pytest.fixture()
def gone(world: World):
    """A world whose image service has no pods any more."""
    name = world.layout.service_host("image", "us-east-1a")
    before = world.dns.records[name]

    def stop() -> None:
        world.dns.records[name] = []

    yield stop
    world.dns.records[name] = before


def test_a_gateway_whose_image_service_is_gone_shows_less_and_is_whole_again(
    world: World, gone
) -> None:
    anna = world.token("anna")
    picture = io.BytesIO()
    Image.effect_noise((800, 600), 50).convert("RGB").save(picture, "JPEG")
    kind = {**anna, "Content-Type": "image/jpeg"}
    assert call(world.gateway, "PUT", "/v1/files/seen", picture.getvalue(), kind).status == 201
    seen, unseen = "/v1/images/seen?w=200", "/v1/images/seen?w=320"
    whole = call(world.gateway, "GET", seen, headers=anna)
    assert whole.status == 200 and "x-degraded" not in whole.headers
    name = world.layout.service_host("image", "us-east-1a")
    pods = world.dns.records[name]
    gone()
    until(
        lambda: "x-degraded" in call(world.gateway, "GET", seen, headers=anna).headers,
        "degradation",
    )
    stale = call(world.gateway, "GET", seen, headers=anna)
    assert (stale.status, stale.headers["x-degraded"], stale.body) == (200, "stale", whole.body)
    assert stale.headers["cache-control"] == "no-store" and "etag" not in stale.headers
    other = call(world.gateway, "GET", unseen, headers=anna)
    assert (other.status, other.headers["x-degraded"]) == (200, "placeholder")
    assert Image.open(io.BytesIO(other.body)).width == 320
    for _ in range(LEAST):
        call(world.gateway, "GET", seen, headers=anna)
    assert world.metric(world.gateway, "image_circuit_breaker_state{") == 2
    assert world.metric(world.gateway, "image_degraded_total{kind=") > LEAST
    # What only the service may refuse is not shown to whoever may not ask, nor what is no picture.
    assert call(world.gateway, "GET", seen).status == 401
    assert call(world.gateway, "GET", "/v1/images/seen?w=9", headers=anna).status == 400
    world.dns.records[name] = pods
    until(
        lambda: "x-degraded" not in call(world.gateway, "GET", seen, headers=anna).headers,
        "the picture itself",
    )
    for _ in range(TRIALS):
        assert call(world.gateway, "GET", seen, headers=anna).body == whole.body
    assert world.metric(world.gateway, "image_circuit_breaker_state{") == 0
