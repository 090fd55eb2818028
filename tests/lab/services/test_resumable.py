"""Uploads in parts: they go on where they stopped, on any pod, and count only when whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from services_world import POD_PORT, Answer, World, call, until

TUS = {"Tus-Resumable": "1.0.0"}
BODY = os.urandom(90_000)
PART = 40_000
REPO = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def anna(world: World) -> dict[str, str]:
    return {**world.token("anna"), **TUS}


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def begin(world: World, who: dict[str, str], name: str, body: bytes, sha256: str = "") -> Answer:
    sha256 = sha256 or hashlib.sha256(body).hexdigest()
    metadata = f"filename {base64_of(name)},filetype {base64_of('x/y')},sha256 {base64_of(sha256)}"
    headers = {**who, "Upload-Length": str(len(body)), "Upload-Metadata": metadata}
    return call(world.gateway, "POST", "/v1/uploads", b"", headers)


def part(host: str, who: dict[str, str], path: str, offset: int, data: bytes) -> Answer:
    headers = {
        **who,
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": str(offset),
    }
    return call(host, "PATCH", path, data, headers)


def offset_of(world: World, who: dict[str, str], path: str) -> int:
    answer = call(world.gateway, "HEAD", path, headers=who)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def file_pods(world: World) -> list[str]:
    """Addresses of two file pods; another test may have killed one."""
    name = world.layout.service_host("file", world.layout.zone(world.zone).cluster)
    while len(world.dns.records[name]) < 2:
        world.pod("file", f"file-again-{len(world.pids)}")
    return world.dns.records[name]


def test_parts_become_one_file_that_is_there_only_with_the_last(world, anna):
    begun = begin(world, anna, "parts.bin", BODY)
    assert begun.status == 201
    path = begun.headers["location"]
    for at in range(0, 80_000, PART):
        sent = part(world.gateway, anna, path, at, BODY[at : at + PART])
        assert (sent.status, sent.headers["upload-offset"]) == (204, str(at + PART))
        assert sent.headers["tus-resumable"] == "1.0.0"
        assert "etag" not in sent.headers
        assert call(world.gateway, "GET", "/v1/files/parts.bin", headers=anna).status == 404
    last = part(world.gateway, anna, path, 80_000, BODY[80_000:])
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert (last.status, last.headers["upload-offset"]) == (204, str(len(BODY)))
    assert last.headers["etag"] == f'"{sha256}"'
    got = call(world.gateway, "GET", "/v1/files/parts.bin", headers=anna)
    assert (got.status, got.body, got.headers["content-type"]) == (200, BODY, "x/y")
    # Asked again, whoever missed the last answer learns that it is done.
    done = call(world.gateway, "HEAD", path, headers=anna)
    assert (done.headers["upload-offset"], done.headers["etag"]) == (str(len(BODY)), f'"{sha256}"')


def test_a_part_at_a_wrong_offset_is_refused_and_changes_nothing(world, anna):
    path = begin(world, anna, "wrong.bin", BODY).headers["location"]
    assert part(world.gateway, anna, path, 0, BODY[:PART]).status == 204
    for offset in (0, PART - 1, PART + 1):
        refused = part(world.gateway, anna, path, offset, b"x" * 10)
        assert (refused.status, refused.json["code"]) == (409, "wrong_offset")
        assert refused.headers["tus-resumable"] == "1.0.0"
    assert offset_of(world, anna, path) == PART
    assert part(world.gateway, anna, path, PART, BODY).status == 413
    assert part(world.gateway, anna, path, PART, BODY[PART:]).status == 204
    assert call(world.gateway, "GET", "/v1/files/wrong.bin", headers=anna).body == BODY


def test_a_connection_cut_in_the_middle_of_a_part_leaves_the_offset_where_it_was(world, anna):
    path = begin(world, anna, "cut.bin", BODY).headers["location"]
    assert part(world.gateway, anna, path, 0, BODY[:PART]).status == 204
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {PART}\r\nUpload-Offset: {PART}\r\n"
    )
    head += "Content-Type: application/offset+octet-stream\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in anna.items())
    for host in (world.gateway, file_pods(world)[0]):
        with socket.create_connection((host, POD_PORT), timeout=5) as connection:
            extra = "" if host == world.gateway else "X-User: anna\r\n"
            connection.sendall((head + extra + "\r\n").encode() + BODY[PART : PART + 9000])
        assert offset_of(world, anna, path) == PART
    assert part(world.gateway, anna, path, PART, BODY[PART:]).status == 204
    assert call(world.gateway, "GET", "/v1/files/cut.bin", headers=anna).body == BODY


def test_another_pod_goes_on_where_one_stopped(world, anna):
    first, second = file_pods(world)[:2]
    as_anna = {**TUS, "X-User": "anna"}
    path = begin(world, anna, "pods.bin", BODY).headers["location"]
    assert part(first, as_anna, path, 0, BODY[:PART]).status == 204
    assert part(second, as_anna, path, PART, BODY[PART : PART + 10]).status == 204
    assert part(first, as_anna, path, PART, BODY[PART:]).status == 409
    assert part(first, as_anna, path, PART + 10, BODY[PART + 10 :]).status == 204
    assert call(second, "GET", "/v1/files/pods.bin", headers=as_anna).body == BODY


def test_of_two_that_send_the_same_part_at_once_one_is_told_so(world, anna):
    path = begin(world, anna, "race.bin", BODY).headers["location"]
    as_anna = {**TUS, "X-User": "anna"}
    pods = file_pods(world)[:2]
    with ThreadPoolExecutor(2) as pool:
        sent = list(pool.map(lambda host: part(host, as_anna, path, 0, BODY[:PART]), pods))
        assert sorted(answer.status for answer in sent) == [204, 409]
        last = list(pool.map(lambda host: part(host, as_anna, path, PART, BODY[PART:]), pods))
    # The second may find it done already, or be too late with its own, or miss the parts that the
    # first has put together and removed: in any case it is done.
    assert sorted(answer.status for answer in last) == [204, 409]
    assert offset_of(world, anna, path) == len(BODY)
    assert call(world.gateway, "GET", "/v1/files/race.bin", headers=anna).body == BODY


def test_an_upload_whose_parts_are_in_no_store_is_gone_and_begun_anew(world, anna):
    path = begin(world, anna, "partless.bin", BODY).headers["location"]
    assert part(world.gateway, anna, path, 0, BODY[:PART]).status == 204
    listed = world.store.call("GET", f"/{world.store.bucket}?list-type=2&prefix=uploads/")
    token = path.rpartition("/")[2]
    [key] = re.findall(rf"<Key>(uploads/{token}/[^<]*)</Key>", listed.body.decode())
    until(lambda: world.peer.has(key), "the copy of the part")
    for store in (world.store, world.peer):
        assert store.call("DELETE", f"/{store.bucket}/{key}").status == 204
    lost = part(world.gateway, anna, path, PART, BODY[PART:])
    assert (lost.status, lost.json["code"]) == (410, "upload_gone")
    assert call(world.gateway, "HEAD", path, headers=anna).status == 404
    assert call(world.gateway, "GET", "/v1/files/partless.bin", headers=anna).status == 404


def test_parts_that_are_not_what_was_announced_make_no_file(world, anna):
    path = begin(world, anna, "altered.bin", BODY, "0" * 64).headers["location"]
    refused = part(world.gateway, anna, path, 0, BODY)
    assert (refused.status, refused.json["code"]) == (422, "checksum_mismatch")
    assert call(world.gateway, "GET", "/v1/files/altered.bin", headers=anna).status == 404
    assert call(world.gateway, "HEAD", path, headers=anna).status == 404


def test_a_large_upload_is_streamed_together(world, anna):
    body = BODY * 12
    path = begin(world, anna, "large-parts.bin", body).headers["location"]
    half = len(body) // 2
    assert part(world.gateway, anna, path, 0, body[:half]).status == 204
    assert part(world.gateway, anna, path, half, body[half:]).status == 204
    assert call(world.gateway, "GET", "/v1/files/large-parts.bin", headers=anna).body == body


def test_what_is_not_tus_or_not_theirs_is_refused(world, anna):
    path = begin(world, anna, "mine.bin", BODY).headers["location"]
    bob, viewer = ({**world.token(user), **TUS} for user in ("bob", "viewer-1"))
    assert call(world.gateway, "HEAD", path, headers=bob).status == 404
    assert part(world.gateway, bob, path, 0, BODY).status == 404
    assert begin(world, viewer, "theirs.bin", BODY).status == 403
    assert begin(world, anna, "a/b", BODY).status == 400
    assert begin(world, anna, "empty.bin", b"").status == 400
    old = {**anna, "Tus-Resumable": "0.2.2"}
    refused = call(world.gateway, "HEAD", path, headers=old)
    assert (refused.status, refused.headers["tus-version"]) == (412, "1.0.0")
    wrong_type = {**anna, "Content-Type": "x/y", "Upload-Offset": "0"}
    assert call(world.gateway, "PATCH", path, b"x", wrong_type).status == 415
    options = call(world.gateway, "OPTIONS", "/v1/uploads")
    assert (options.status, options.headers["tus-extension"]) == (204, "creation")
    assert call(world.gateway, "PUT", path, b"", anna).status == 405
    # What another user has stored is not replaced by parts either.
    assert call(world.gateway, "PUT", "/v1/files/taken", b"x", anna).status == 201
    theirs = begin(world, bob, "taken", BODY).headers["location"]
    assert part(world.gateway, bob, theirs, 0, BODY).status == 403
    assert call(world.gateway, "GET", "/v1/files/taken", headers=anna).body == b"x"


def test_a_gateway_counts_one_upload_however_many_its_parts(world, anna):
    def counted(op: str) -> float:
        return world.metric(world.gateway, f'http_requests_total{{service="gateway",op="{op}"')

    before = {op: counted(op) for op in ("upload", "upload-part", "upload-create")}
    path = begin(world, anna, "counted.bin", BODY).headers["location"]
    for at in (0, PART):
        part(world.gateway, anna, path, at, BODY[at : at + PART])
    part(world.gateway, anna, path, 2 * PART, BODY[2 * PART :])
    grown = {op: counted(op) - n for op, n in before.items()}
    assert grown == {"upload": 1, "upload-part": 2, "upload-create": 1}


def test_the_traffic_uploads_in_parts_that_are_cut_and_resumed(world):
    """The load engine's own client against the service, through the gateway."""
    # In a process of its own: gevent's loop takes the children of the whole process.
    url = f"http://{world.gateway}:{POD_PORT}"
    argv = [sys.executable, "-m", "tests.load.using", url, "70000", "130000", "200000"]
    ran = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["results"] == [["ok", ""]] * 3
    told = seen["about"]
    assert told["in_parts"] == 3
    assert told["interruptions"] == told["resumptions"] > 0
    assert [line["outcome"] for line in seen["ledger"]] == ["acked"] * 3
    who = world.token("lab")
    for line in seen["ledger"]:
        got = call(world.gateway, "GET", f"/v1/files/{line['object']}", headers=who)
        assert (got.status, len(got.body)) == (200, line["size_bytes"])
        assert hashlib.sha256(got.body).hexdigest() == line["sha256"]
