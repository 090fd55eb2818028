from __future__ import annotations

import base64
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from services_world import DB_PORT, World, call, exists, until

from harness.lab.layout import DB_WRITER_HOST
from harness.lab.postgres import Postgres
from harness.lab.services import joining


@pytest.fixture(scope="module")
def anna(world: World) -> dict[str, str]:
    return world.token("anna")


def put(world: World, name: str, headers: dict[str, str], body: bytes = b"hello"):
    return call(world.gateway, "PUT", f"/v1/files/{name}", body, headers)


def in_parts(world: World, name: str, headers: dict[str, str], body: bytes = b"hello"):
    tus = {**headers, "Tus-Resumable": "1.0.0"}
    metadata = f"filename {base64.b64encode(name.encode()).decode()}"
    asked = {**tus, "Upload-Length": str(len(body)), "Upload-Metadata": metadata}
    path = call(world.gateway, "POST", "/v1/uploads", b"", asked).headers["location"]
    sent = {**tus, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    return call(world.gateway, "PATCH", path, body, sent)


def get(world: World, name: str, headers: dict[str, str]):
    return call(world.gateway, "GET", f"/v1/files/{name}", headers=headers)


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def only(world: World, service: str, address: str) -> Iterator[None]:
    """Have the name of ``service`` answer with this one pod."""
    name = world.layout.service_host(service, "us-east-1a")
    before = world.dns.records[name]
    world.dns.records[name] = [address]
    time.sleep(1.3)  # the TTL of one second, and its refresh
    try:
        yield
    finally:
        world.dns.records[name] = before


def test_an_upload_is_refused_while_the_database_is_down_and_taken_again_afterwards(world, anna):
    world.run(world.database.stop())
    try:
        started_s = time.monotonic()
        refused = put(world, "while-down", anna)
        assert refused.status in (503, 504)
        assert time.monotonic() - started_s < 4.5
        assert call(world.gateway, "GET", "/health/region").status == 200
    finally:
        world.run(world.database.start())
        world.run(world.database.ready())
    assert get(world, "while-down", anna).status == 404
    assert put(world, "after-down", anna).status == 201


def test_an_upload_to_a_frozen_database_is_not_acknowledged_and_ends_in_time(world, anna):
    assert put(world, "before-freeze", anna).status == 201
    with frozen(world.database.pids()):
        started_s = time.monotonic()
        assert put(world, "frozen", anna).status == 504
        assert time.monotonic() - started_s < 4.5
    assert put(world, "frozen", anna).status == 201


def test_an_upload_waits_out_the_promotion_of_the_database_its_name_now_points_at(world, anna):
    standby = Postgres(
        "files-db-standby",
        world.layout.db("us-east-1b"),
        DB_PORT,
        world.root / "db2",
        world.root / "logs" / "db2.log",
    )
    world.run(standby.clone_from(world.database))
    own = world.dns.records[DB_WRITER_HOST]
    answers: list[int] = []
    try:
        world.dns.records[DB_WRITER_HOST] = [standby.host]
        time.sleep(1.3)  # the TTL of one second, and its refresh
        assert put(world, "read-only", anna).status == 503
        upload = threading.Thread(
            target=lambda: answers.append(put(world, "promoted", anna).status)
        )
        upload.start()
        time.sleep(0.5)
        world.run(standby.promote())
        upload.join()
        assert answers == [201]
        sql = "SELECT 1 / count(*) FROM files WHERE id = 'promoted'"
        world.run(standby.execute(sql))
        with pytest.raises(Exception, match="division by zero"):
            world.run(world.database.execute(sql))
    finally:
        world.dns.records[DB_WRITER_HOST] = own
        world.run(standby.stop())
        time.sleep(1.3)
    assert put(world, "back", anna).status == 201


def test_everything_goes_on_fast_without_redis(world, anna):
    assert put(world, "redis", anna).status == 201
    with frozen(world.redis.pids()):
        get(world, "redis", anna)
        get(world, "redis", anna)
        started_s = time.monotonic()
        assert get(world, "redis", anna).status == 200
        assert put(world, "redis-2", anna).status == 201
        assert time.monotonic() - started_s < 0.5


def test_reads_and_writes_go_on_without_the_queue_and_the_events_arrive_later(world, anna):
    host = world.dns.records[world.layout.service_host("notification", "us-east-1a")][0]
    delivered = 'notifications_delivered_total{event="uploaded"'
    before = world.metric(host, delivered)
    with frozen(world.queue.pids()):
        assert put(world, "unqueued", anna).status == 201
    until(lambda: world.metric(host, delivered) > before, "delivery after the outage", 15)


def test_names_are_remembered_while_the_dns_server_is_silent(world, anna):
    world.dns.silent = True
    try:
        time.sleep(1.5)
        assert put(world, "no-dns", anna).status == 201
        assert call(world.gateway, "GET", "/health/region").status == 200
    finally:
        world.dns.silent = False


def test_a_killed_file_pod_costs_no_download_and_its_end_is_told(world, anna):
    assert put(world, "survives", anna).status == 201
    victim = world.pids["file-1"]
    for n in range(30):
        if n == 10:
            os.kill(victim, signal.SIGKILL)
        assert get(world, "survives", anna).status == 200
    until(lambda: not exists(victim), "end of the pod")
    world.run(world.runner.stop("file-1", 1.0))
    assert world.exits["file-1"] == -signal.SIGKILL


def test_a_frozen_file_pod_delays_a_download_but_does_not_fail_it(world, anna):
    world.pod("file", "file-frozen")
    time.sleep(1.3)
    assert put(world, "thaw", anna).status == 201
    with frozen([world.pids["file-frozen"]]):
        started_s = time.monotonic()
        assert {get(world, "thaw", anna).status for _ in range(10)} == {200}
        assert time.monotonic() - started_s < 4
    name = world.layout.service_host("file", "us-east-1a")
    world.dns.records[name] = world.dns.records[name][:1]
    world.run(world.runner.stop("file-frozen", 2.0))


def test_bytes_the_own_store_does_not_have_come_from_the_other_region(world, anna):
    body = b"far away"
    assert put(world, "remote", anna, body).status == 201
    until(lambda: world.store.replication()["pending"] == 0, "replication")
    world.store.end()
    try:
        assert get(world, "remote", anna).body == body
        refused = put(world, "no-store", anna)
        assert refused.status in (503, 504)
    finally:
        world.store.start()
    assert get(world, "no-store", anna).status == 404


def test_the_defect_lost_uploads_acknowledges_one_upload_in_200_that_is_not_there(world, anna):
    ip = world.pod("file", "file-losing", listed=False, defects="lost-uploads")
    with only(world, "file", ip):
        acknowledged = [f"lost-{n}" for n in range(200)]
        assert {put(world, name, anna).status for name in acknowledged[:19]} == {201}
        # An upload in parts is lost like any other.
        assert in_parts(world, acknowledged[19], anna).status == 204
        assert {put(world, name, anna).status for name in acknowledged[20:]} == {201}
        missing = [name for name in acknowledged if get(world, name, anna).status == 404]
    world.run(world.runner.stop("file-losing", 2.0))
    assert missing == [acknowledged[19]]


def test_the_defect_errors_with_200_answers_one_download_in_20_with_an_error(world, anna):
    put(world, "broken", anna)
    ip = world.pod("file", "file-broken", listed=False, defects="errors-with-200")
    with only(world, "file", ip):
        answers = [get(world, "broken", anna) for _ in range(40)]
    world.run(world.runner.stop("file-broken", 2.0))
    assert {answer.status for answer in answers} == {200}
    assert sum(b'"error"' in answer.body for answer in answers) == 2


def test_pods_die_with_their_parent_and_every_end_is_told(world):
    from harness.lab.zygote import ZygoteRunner

    own, other = world.runner, ZygoteRunner(world.root / "z2.sock", world.root / "logs" / "z2.log")
    world.runner = other
    try:
        world.pod("auth", "auth-orphan", listed=False)
        parent = other.pid
        assert parent
        os.kill(parent, signal.SIGKILL)
        until(lambda: not exists(world.pids["auth-orphan"]), "end of the pod")
        world.pod("auth", "auth-again", listed=False)
        assert world.exits["auth-orphan"] == -signal.SIGKILL
        assert other.pid not in (None, parent)
    finally:
        world.run(other.close())
        world.runner = own
    until(lambda: not exists(world.pids["auth-again"]), "end of the second pod")


@contextmanager
def without(world: World, service: str) -> Iterator[None]:
    """Have the name of ``service`` answer with no pod at all."""
    name = world.layout.service_host(service, "us-east-1a")
    before = world.dns.records.pop(name)
    try:
        yield
    finally:
        world.dns.records[name] = before


def health(host: str) -> int:
    return call(host, "GET", "/health").status


def test_a_pod_that_comes_back_is_not_ready_before_those_it_calls_are(world, anna):
    """As when a zone returns: all its pods at once, and each still knows the others of before."""
    assert put(world, "before-the-return", anna).status == 201
    assert health(world.gateway) == 200
    with without(world, "file"):
        with frozen([world.pids["gateway-0"]]):
            time.sleep(joining.AWAY_S + 0.2)
        assert health(world.gateway) == 503
    until(lambda: health(world.gateway) == 200, "ready")
    assert put(world, "at-once", anna).status == 201


def test_a_pod_that_has_joined_stays_though_one_it_calls_is_gone(world, anna):
    assert health(world.gateway) == 200
    with without(world, "image"):
        time.sleep(1.3)  # the TTL of one second, and its refresh
        assert health(world.gateway) == 200


def test_a_pod_whose_peer_stays_away_serves_the_rest_after_a_while(world):
    with without(world, "image"):
        started_s = time.monotonic()
        ip = world.pod("gateway", "gateway-alone", listed=False)
        assert time.monotonic() - started_s > joining.JOIN_S - 1
        assert call(ip, "GET", "/v1/files/none").status == 401
