from __future__ import annotations

import hashlib
import io
import json
import os
import signal

import pytest
from PIL import Image
from services_world import POD_PORT, World, call, until

BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def anna(world: World) -> dict[str, str]:
    return world.token("anna")


def put(world: World, name: str, body: bytes, headers: dict[str, str]):
    return call(world.gateway, "PUT", f"/v1/files/{name}", body, headers)


def test_an_uploaded_file_comes_back_with_its_checksum_and_who_served_it(world, anna):
    sha256 = hashlib.sha256(BODY).hexdigest()
    sent = put(world, "a.bin", BODY, {**anna, "Content-Type": "x/y", "X-Checksum-Sha256": sha256})
    assert sent.status == 201
    assert sent.json == {
        "id": "a.bin",
        "sha256": sha256,
        "size_bytes": len(BODY),
        "etag": f'"{sha256}"',
    }
    got = call(world.gateway, "GET", "/v1/files/a.bin", headers=anna)
    assert (got.status, got.body) == (200, BODY)
    assert got.headers["x-checksum-sha256"] == sha256
    assert got.headers["content-type"] == "x/y"
    assert got.headers["x-served-region"] == "us-east-1"
    assert got.headers["x-served-zone"] == "us-east-1a"
    assert got.headers["x-served-cluster"] == "us-east-1a"
    assert got.headers["x-served-pod"] == "gateway-0"
    assert got.headers["x-served-version"] == "v1"
    head = call(world.gateway, "HEAD", "/v1/files/a.bin", headers=anna)
    assert (head.status, head.headers["content-length"]) == (200, str(len(BODY)))


def test_conditional_and_range_requests_follow_http(world, anna):
    put(world, "range.bin", BODY, anna)
    path = "/v1/files/range.bin"
    etag = call(world.gateway, "HEAD", path, headers=anna).headers["etag"]
    same = call(world.gateway, "GET", path, headers={**anna, "If-None-Match": etag})
    assert (same.status, same.body) == (304, b"")
    part = call(world.gateway, "GET", path, headers={**anna, "Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, BODY[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(BODY)}"
    tail = call(world.gateway, "GET", path, headers={**anna, "Range": "bytes=-5"})
    assert (tail.status, tail.body) == (206, BODY[-5:])
    beyond = call(world.gateway, "GET", path, headers={**anna, "Range": "bytes=99999-"})
    assert (beyond.status, beyond.json["code"]) == (416, "bad_range")


def test_a_large_file_is_streamed_both_ways_and_a_too_large_one_refused(world, anna):
    body = os.urandom(1024) * 3000
    assert put(world, "large.bin", body, anna).status == 201
    assert call(world.gateway, "GET", "/v1/files/large.bin", headers=anna).body == body
    declared = {**anna, "Content-Length": str(33 * 1024 * 1024)}
    assert call(world.gateway, "PUT", "/v1/files/huge.bin", b"", declared).status == 413


def test_an_upload_that_does_not_match_its_checksum_is_refused_and_not_kept(world, anna):
    bad = put(world, "bad.bin", BODY, {**anna, "X-Checksum-Sha256": "0" * 64})
    assert (bad.status, bad.json["code"]) == (422, "checksum_mismatch")
    assert call(world.gateway, "GET", "/v1/files/bad.bin", headers=anna).status == 404


def test_a_deleted_file_is_gone_and_not_listed_and_may_be_deleted_again(world, anna):
    for name in ("del-1", "del-2"):
        assert put(world, name, b"x", anna).status == 201
    assert call(world.gateway, "GET", "/v1/files/del-1", headers=anna).status == 200
    assert call(world.gateway, "DELETE", "/v1/files/del-1", headers=anna).status == 204
    assert call(world.gateway, "GET", "/v1/files/del-1", headers=anna).status == 404
    assert call(world.gateway, "DELETE", "/v1/files/del-1", headers=anna).status == 204
    assert call(world.gateway, "DELETE", "/v1/files/never", headers=anna).status == 404
    listed = call(world.gateway, "GET", "/v1/files?prefix=del-&limit=10", headers=anna).json
    assert [file["id"] for file in listed["files"]] == ["del-2"]
    assert put(world, "del-1", b"y", anna).status == 201
    assert call(world.gateway, "GET", "/v1/files/del-1", headers=anna).body == b"y"


def test_tokens_roles_and_owners_decide_who_may_do_what(world, anna):
    put(world, "hers", b"x", anna)
    bob, viewer, admin = (world.token(user) for user in ("bob", "viewer-1", "admin"))
    assert call(world.gateway, "GET", "/v1/files/hers").status == 401
    wrong = {"Authorization": anna["Authorization"][:-3] + "AAA"}
    assert call(world.gateway, "GET", "/v1/files/hers", headers=wrong).status == 401
    assert call(world.gateway, "GET", "/v1/files/hers", headers=viewer).status == 200
    assert put(world, "theirs", b"x", viewer).status == 403
    assert put(world, "hers", b"z", bob).status == 403
    assert call(world.gateway, "DELETE", "/v1/files/hers", headers=bob).status == 403
    assert call(world.gateway, "GET", "/v1/files/hers", headers=bob).body == b"x"
    assert call(world.gateway, "DELETE", "/v1/files/hers", headers=admin).status == 204
    body = json.dumps({"user": "anna", "password": "guess"}).encode()
    assert call(world.gateway, "POST", "/v1/token", body).status == 401


def test_an_image_is_resized_once_and_then_served_from_the_store(world, anna):
    image = io.BytesIO()
    Image.effect_noise((800, 600), 50).convert("RGB").save(image, "JPEG")
    put(world, "photo", image.getvalue(), {**anna, "Content-Type": "image/jpeg"})
    path = "/v1/images/photo?w=200"
    host = world.dns.records[world.layout.service_host("image", "us-east-1a")][0]
    made = world.metric(host, "image_variants_made_total{")
    first = call(world.gateway, "GET", path, headers=anna)
    assert (first.status, first.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(first.body)).size == (200, 150)
    again = call(world.gateway, "GET", path, headers=anna)
    assert again.body == first.body
    assert world.metric(host, "image_variants_made_total{") == made + 1
    put(world, "text", b"not an image", anna)
    assert call(world.gateway, "GET", "/v1/images/text", headers=anna).status == 415
    assert call(world.gateway, "GET", "/v1/images/photo?w=9", headers=anna).status == 400


def test_uploads_and_deletes_are_notified_through_the_queue(world, anna):
    host = world.dns.records[world.layout.service_host("notification", "us-east-1a")][0]
    uploaded = 'notifications_delivered_total{event="uploaded"'
    deleted = 'notifications_delivered_total{event="deleted"'
    before = world.metric(host, uploaded), world.metric(host, deleted)
    put(world, "told", b"x", anna)
    call(world.gateway, "DELETE", "/v1/files/told", headers=anna)
    until(lambda: world.metric(host, uploaded) > before[0], "delivery of the upload")
    until(lambda: world.metric(host, deleted) > before[1], "delivery of the delete")


def test_requests_are_counted_and_timed_by_operation_and_code_but_health_is_not(world, anna):
    labels = 'http_requests_total{service="gateway",op="download",code="404"'
    before = world.metric(world.gateway, labels)
    call(world.gateway, "GET", "/v1/files/nothing", headers=anna)
    call(world.gateway, "GET", "/health")
    assert world.metric(world.gateway, labels) == before + 1
    text = call(world.gateway, "GET", "/metrics").body.decode()
    assert 'op="health"' not in text
    assert 'region="us-east-1",zone="us-east-1a",pod="gateway-0",version="v1"' in text
    assert 'http_request_duration_seconds_bucket{service="gateway",op="download",le="0.2"' in text


def test_unknown_paths_methods_and_ids_are_refused_as_json(world, anna):
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("PATCH", "/v1/files/a", 405),
        ("PUT", "/v1/files/a%2Fb", 400),
        ("GET", "/v1/files?limit=0", 400),
    ):
        answer = call(world.gateway, method, path, headers=anna)
        assert (answer.status, set(answer.json)) == (status, {"error", "code"}), path


def test_the_region_is_healthy_exactly_while_the_writer_name_points_into_it(world):
    name = "db-writer.fileservice.lab"
    assert call(world.gateway, "GET", "/health/region").status == 200
    own = world.dns.records[name]
    world.dns.records[name] = [world.layout.db("us-west-2a")]
    try:
        until(lambda: call(world.gateway, "GET", "/health/region").status == 503, "red")
    finally:
        world.dns.records[name] = own
    until(lambda: call(world.gateway, "GET", "/health/region").status == 200, "green")


def test_a_pod_serves_on_for_a_moment_after_sigterm_and_then_ends_clean(world):
    ip = world.pod("auth", "auth-leaving", listed=False)
    os.kill(world.pids["auth-leaving"], signal.SIGTERM)
    until(lambda: call(ip, "GET", "/health", port=POD_PORT).status == 503, "draining")
    world.run(world.runner.stop("auth-leaving", 3.0))
    assert world.exits["auth-leaving"] == 0
