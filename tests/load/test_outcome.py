"""Ok, failed and unsure: what surely did not happen is told apart from what may have."""

from __future__ import annotations

import hashlib
import json

import pytest

from harness.load import checks, jpeg
from harness.load.outcome import FAILED, OK, UNSURE, of_read, of_write

from .made import made

JSON_ERROR = json.dumps({"error": "the store cannot be reached", "code": "x"}).encode()
BODY = b"0123456789"
SHA = hashlib.sha256(BODY).hexdigest()


def answer(status=200, body=b"", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return made(status=status, body=body, headers=named, sent=True)


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [
        (answer(201), OK),
        (made(error="refused", sent=False), FAILED),
        (made(error="connect-timeout", sent=False), FAILED),
        (made(error="timeout", sent=True), UNSURE),
        (made(error="reset", sent=True), UNSURE),
        (answer(403, JSON_ERROR), FAILED),
        (answer(429), FAILED),
        (answer(503, JSON_ERROR), FAILED),
        (answer(503, b"upstream connect error or disconnect/reset before headers"), UNSURE),
        (answer(503, b'{"error": "upstream request timeout"}'), UNSURE),
        (answer(503), UNSURE),
        (answer(504, JSON_ERROR), UNSURE),
        (answer(502), UNSURE),
        (answer(500, JSON_ERROR), UNSURE),
        (answer(408), UNSURE),
        (answer(201, JSON_ERROR), UNSURE),
    ],
)
def test_an_upload_is_failed_only_when_it_surely_did_not_happen(exchange, outcome):
    assert of_write(exchange, (200, 201)).outcome == outcome


def test_a_read_that_was_not_answered_rightly_has_failed():
    assert of_read(made(error="timeout", sent=True), (200,)) == (FAILED, "timeout")
    assert of_read(answer(503), (200,)) == (FAILED, "status-503")
    assert of_read(answer(200), (200,)) == (OK, "")


@pytest.mark.parametrize(
    ("exchange", "error"),
    [
        (answer(200, BODY), ""),
        (answer(200, BODY, x_checksum_sha256=SHA), ""),
        (answer(200, BODY, x_checksum_sha256="0" * 64), "checksum"),
        (answer(200, b"012345678X"), "checksum"),
        (answer(200, BODY[:-1]), "wrong-length"),
        (answer(200, b""), "wrong-length"),
        (answer(200, JSON_ERROR), "error-body"),
        (answer(404, JSON_ERROR), "status-404"),
        (answer(206, BODY), "status-206"),
        (made(error="closed", sent=True), "closed"),
    ],
)
def test_a_download_is_ok_only_with_the_very_bytes_uploaded(exchange, error):
    result = checks.whole_file(exchange, sha256=SHA, size_bytes=len(BODY))
    assert result == (FAILED if error else OK, error)


def test_an_uploaded_file_that_is_itself_json_with_error_is_not_an_error():
    body = JSON_ERROR
    sha256 = hashlib.sha256(body).hexdigest()
    result = checks.whole_file(answer(200, body), sha256=sha256, size_bytes=len(body))
    assert result.outcome == OK


@pytest.mark.parametrize(
    ("exchange", "error"),
    [
        (answer(206, b"345", content_range="bytes 3-5/10"), ""),
        (answer(200, BODY), ""),
        (answer(206, b"346", content_range="bytes 3-5/10"), "checksum"),
        (answer(206, b"34", content_range="bytes 3-5/10"), "wrong-length"),
        (answer(206, b"345", content_range="bytes 2-4/10"), "content-range"),
        (answer(206, b"345"), "content-range"),
        (answer(416), "status-416"),
        (answer(200, JSON_ERROR), "error-body"),
    ],
)
def test_a_range_is_ok_only_with_its_very_bytes(exchange, error):
    result = checks.part(exchange, expected=b"345", first=3, last=5, size_bytes=10, sha256=SHA)
    assert result == (FAILED if error else OK, error)


def test_a_conditional_request_may_be_answered_with_304_or_with_the_file():
    for exchange in (answer(304), answer(200, BODY)):
        assert checks.unchanged_or_whole(exchange, sha256=SHA, size_bytes=10).outcome == OK
    wrong = checks.unchanged_or_whole(answer(200, b"x"), sha256=SHA, size_bytes=10)
    assert wrong == (FAILED, "wrong-length")


@pytest.mark.parametrize(
    ("exchange", "error"),
    [
        (answer(200, jpeg.picture("a", 160, 120), content_type="image/jpeg"), ""),
        (answer(200, jpeg.picture("a", 320, 240), content_type="image/jpeg"), "wrong-width"),
        (answer(200, b"GIF89a", content_type="image/jpeg"), "not-a-picture"),
        (answer(200, jpeg.picture("a", 160, 120), content_type="text/html"), "content-type"),
        (answer(200, JSON_ERROR, content_type="image/jpeg"), "error-body"),
        (answer(503), "status-503"),
    ],
)
def test_a_variant_is_ok_only_as_a_jpeg_of_the_right_width(exchange, error):
    assert checks.picture(exchange, width=160) == (FAILED if error else OK, error)


def test_a_variant_that_is_declared_to_be_less_may_have_another_width_and_must_be_a_picture():
    placeholder = {"content_type": "image/jpeg", "x_degraded": "placeholder"}
    found = checks.picture(answer(200, jpeg.picture("a", 64, 48), **placeholder), width=160)
    assert found.outcome == OK
    for body, error in ((b"GIF89a", "not-a-picture"), (JSON_ERROR, "error-body")):
        found = checks.picture(answer(200, body, **placeholder), width=160)
        assert found == (FAILED, error)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"files": []}', ""),
        (b"[]", ""),
        (JSON_ERROR, "error-body"),
        (b"<html>", "not-json"),
        (b"{}", "not-json"),
    ],
)
def test_a_listing_is_ok_only_as_a_json_list(body, error):
    assert checks.listing(answer(200, body)) == (FAILED if error else OK, error)


def test_an_upload_acknowledged_with_another_checksum_is_unsure():
    assert checks.upload(answer(201, x_checksum_sha256=SHA), sha256=SHA).outcome == OK
    other = checks.upload(answer(201, x_checksum_sha256="0" * 64), sha256=SHA)
    assert other == (UNSURE, "checksum")
