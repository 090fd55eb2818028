from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import pytest

from harness.lab.layout import Layout
from harness.lab.store import AwsChunks, Disk, Queue, S3Error, Stored, byte_range

sys.path.insert(0, str(Path(__file__).parent / "services"))
from services_world import StoreProcess, until

LAYOUT = Layout(112)


class Pair:
    def __init__(self, root: Path) -> None:
        self.east = StoreProcess(LAYOUT, "us-east-1", "us-west-2", root, 0.1)
        self.west = StoreProcess(LAYOUT, "us-west-2", "us-east-1", root, 0.1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("stores"))
    try:
        pair.east.start()
        pair.west.start()
        yield pair
    finally:
        pair.east.end()
        pair.west.end()


@pytest.fixture(scope="module")
def s3(pair: Pair):
    return boto3.client(
        "s3",
        endpoint_url=f"http://{pair.east.host}:9000",
        region_name="us-east-1",
        aws_access_key_id="lab",
        aws_secret_access_key="lab",
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


def idle(pair: Pair) -> None:
    for store in (pair.east, pair.west):
        until(lambda store=store: store.replication()["pending"] == 0, "replication")


def test_boto3_puts_gets_lists_and_deletes(pair, s3):
    bucket = pair.east.bucket
    body = bytes(range(256)) * 5000
    put = s3.put_object(Bucket=bucket, Key="b/one é+.bin", Body=body, ContentType="x/y")
    assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    got = s3.get_object(Bucket=bucket, Key="b/one é+.bin")
    assert (got["Body"].read(), got["ContentType"]) == (body, "x/y")
    part = s3.get_object(Bucket=bucket, Key="b/one é+.bin", Range="bytes=1-3")
    assert part["Body"].read() == body[1:4]
    head = s3.head_object(Bucket=bucket, Key="b/one é+.bin")
    assert head["ContentLength"] == len(body)
    for key in ("b/two", "c/three", "d"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    assert keys == ["b/one é+.bin", "b/two", "c/three", "d"]
    grouped = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in grouped["CommonPrefixes"]] == ["b/", "c/"]
    assert [item["Key"] for item in grouped["Contents"]] == ["d"]
    s3.delete_object(Bucket=bucket, Key="d")
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="d")
    with pytest.raises(botocore.exceptions.ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="d")
    doomed = [{"Key": "b/two"}, {"Key": "c/three"}]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed})["Deleted"]) == 2
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchBucket"):
        s3.get_object(Bucket="elsewhere", Key="d")


def test_writes_and_deletes_reach_the_peer_and_do_not_bounce_back(pair):
    idle(pair)
    before = pair.west.replication()["replicated"]
    pair.east.call("PUT", f"/{pair.east.bucket}/copy", b"1")
    until(lambda: pair.west.has("copy"), "replication of the write")
    assert pair.west.call("GET", f"/{pair.west.bucket}/copy").body == b"1"
    pair.east.call("DELETE", f"/{pair.east.bucket}/copy")
    until(lambda: not pair.west.has("copy"), "replication of the delete")
    idle(pair)
    assert pair.west.replication()["replicated"] == before
    pair.west.call("PUT", f"/{pair.west.bucket}/other-way", b"2")
    until(lambda: pair.east.has("other-way"), "replication the other way")


def test_the_lag_can_be_set_and_replication_paused_and_both_are_seen(pair):
    idle(pair)
    assert pair.east.replication(lag_s=30)["lag_s"] == 30
    pair.east.call("PUT", f"/{pair.east.bucket}/late", b"1")
    status = pair.east.replication()
    assert status["pending"] == 1 and not pair.west.has("late")
    metrics = pair.east.call("GET", "/metrics").body.decode()
    assert 'store_replication_pending{region="us-east-1"} 1' in metrics
    pair.east.replication(paused=True, lag_s=0)
    pair.east.call("PUT", f"/{pair.east.bucket}/later", b"1")
    until(lambda: pair.east.replication()["oldest_age_s"] > 0.1, "ageing")
    assert pair.east.replication()["pending"] == 2 and not pair.west.has("late")
    pair.east.replication(paused=False, lag_s=0.1)
    until(lambda: pair.west.has("late") and pair.west.has("later"), "replication")
    assert pair.east.call("PUT", "/_store/replication", b'{"lag_s": -1}').status == 400


def test_a_backlog_outlives_an_outage_of_the_peer_and_a_crash_of_the_store(pair):
    idle(pair)
    pair.west.kill()
    for n in range(20):
        answer = pair.east.call("PUT", f"/{pair.east.bucket}/outage-{n}", b"%d" % n)
        assert answer.status == 200
    pair.east.call("DELETE", f"/{pair.east.bucket}/outage-3")
    pair.east.kill()
    pair.east.start()
    assert pair.east.replication()["pending"] == 20
    assert pair.east.call("GET", f"/{pair.east.bucket}/outage-7").body == b"7"
    pair.west.start()
    idle(pair)
    there = [n for n in range(20) if pair.west.has(f"outage-{n}")]
    assert there == [n for n in range(20) if n != 3]


def test_a_body_cut_short_or_damaged_is_refused_and_leaves_nothing(pair):
    path = f"/{pair.east.bucket}/cut"
    with socket.create_connection((pair.east.host, 9000)) as connection:
        head = f"PUT {path} HTTP/1.1\r\nhost: s\r\ncontent-length: 100\r\n\r\nonly this"
        connection.sendall(head.encode())
    chunked = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    answer = pair.east.call("PUT", path, chunked, **headers)
    assert (answer.status, b"BadDigest" in answer.body) == (400, True)
    assert not pair.east.has("cut")


def test_aws_chunks_decode_whatever_way_they_are_cut():
    body = b"5;chunk-signature=ab\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:x\r\n\r\n"
    for size in range(1, len(body)):
        decoder = AwsChunks()
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert b"".join(decoder.feed(piece) for piece in pieces) == b"hello world"
        assert decoder.complete and decoder.trailers == {"x-amz-checksum-crc32": "x"}
    with pytest.raises(S3Error):
        AwsChunks().feed(b"nonsense\r\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("bytes=0-0", (0, 1)), ("bytes=5-", (5, 10)), ("bytes=-3", (7, 10)), ("bytes=2-99", (2, 10)),
     ("", None), ("bytes=3-1", None), ("bytes=0-1,4-5", None), ("items=0-1", None)],
)  # fmt: skip
def test_a_range_is_read_as_http_says(text, expected):
    assert byte_range(text, 10) == expected


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=-0"])
def test_a_range_outside_is_refused(text):
    with pytest.raises(S3Error) as error:
        byte_range(text, 10)
    assert error.value.status == 416


def test_a_key_that_changes_while_it_is_sent_stays_in_the_queue(tmp_path):
    queue = Queue(tmp_path / "q.db")
    queue.add("a", 1.0)
    [(seq, _, _)] = queue.due(2.0, 8)
    queue.add("a", 1.5)
    queue.done(seq)
    assert (queue.pending, queue.oldest_t()) == (1, 1.5)


def test_keys_are_listed_in_order_after_a_given_one(tmp_path):
    disk = Disk(tmp_path)
    for key in ("b", "a/2", "a/1", "c"):
        disk.keep(key, Stored(1, "e", 0.0, "t"))
    assert disk.keys("", "") == ["a/1", "a/2", "b", "c"]
    assert disk.keys("a/", "a/1") == ["a/2"]
    assert disk.delete("a/2") and not disk.delete("a/2")
    assert disk.keys("a/", "") == ["a/1"]
