"""DNS: what Route 53 would answer, and that the server speaks the protocol."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from harness.lab.dns import Answer, DnsServer, Record
from harness.lab.route53 import choose, resolve, ttl

ZONE = "fileservice.lab"
API = f"api.{ZONE}"
EAST, WEST = "127.104.1.1", "127.104.3.1"
ENDPOINTS = {"files-db.rds.lab": ["127.104.10.250"], "files-east.elb.lab": [EAST]}


def record(name: str, kind: str, values: list[str], **more: Any) -> dict[str, Any]:
    return {
        "zone_id": "Z1",
        "zone": ZONE,
        "name": name,
        "type": kind,
        "ttl_s": 20,
        "values": values,
        "set_id": None,
        "failover": None,
        "health_check_id": None,
        "weight": None,
        "policy": "failover" if more.get("failover") else "simple",
        "alias": None,
        **more,
    }


RECORDS = [
    record(ZONE, "NS", ["ns.example"]),
    record(API, "A", [EAST], failover="PRIMARY", health_check_id="hc-east"),
    record(API, "A", [WEST], failover="SECONDARY", health_check_id="hc-west"),
    record(f"db-writer.{ZONE}", "CNAME", ["files-db.rds.lab."], ttl_s=5),
    record(f"www.{ZONE}", "CNAME", [API]),
    record(f"alias.{ZONE}", "A", [], alias="files-east.elb.lab"),
    record(f"a.deep.{ZONE}", "TXT", ['"hello"']),
    record(f"loop.{ZONE}", "CNAME", [f"loop.{ZONE}"]),
    record(f"out.{ZONE}", "CNAME", ["elsewhere.example"]),
    record(f"gone.{ZONE}", "CNAME", [f"nothing.{ZONE}"]),
    record(f"weighted.{ZONE}", "A", [EAST], weight=1, policy="weighted"),
]


def look_up(name: str, kind: str = "A", scale: float = 10.0, **more: Any) -> Answer | None:
    health = more.pop("health", {})
    return resolve(name, kind, {"records": RECORDS}, health, scale, ENDPOINTS.get, **more)


def values(answer: Answer | None) -> list[str]:
    assert answer is not None
    return [r.value for r in answer.records]


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({}, EAST),
        ({"hc-east": True, "hc-west": True}, EAST),
        ({"hc-east": True, "hc-west": False}, EAST),
        ({"hc-east": False, "hc-west": True}, WEST),
        ({"hc-east": False}, WEST),
        ({"hc-east": False, "hc-west": False}, EAST),
    ],
)
def test_failover_records_answer_by_health(health: dict[str, bool], expected: str) -> None:
    assert values(look_up(API, health=health)) == [expected]


def test_a_primary_without_health_check_always_answers() -> None:
    pair = [
        record(API, "A", [EAST], failover="PRIMARY"),
        record(API, "A", [WEST], failover="SECONDARY", health_check_id="hc-west"),
    ]
    chosen = choose(pair, {"hc-west": True})
    assert chosen is not None and chosen["values"] == [EAST]


def test_the_seeded_defect_never_fails_over() -> None:
    health = {"hc-east": False, "hc-west": True}
    assert values(look_up(API, health=health, never_fail_over=True)) == [EAST]


def test_a_cname_is_followed_to_an_rds_endpoint_and_carries_the_scaled_ttl() -> None:
    answer = look_up(f"db-writer.{ZONE}", scale=2.0)
    assert answer is not None
    assert [(r.type, r.value, r.ttl_s) for r in answer.records] == [
        ("CNAME", "files-db.rds.lab.", 2),
        ("A", "127.104.10.250", 2),
    ]


def test_a_cname_within_the_zone_follows_the_failover_of_its_target() -> None:
    assert values(look_up(f"www.{ZONE}", health={"hc-east": False})) == [API, WEST]


def test_an_endpoint_name_is_answered_directly_and_an_alias_without_a_cname() -> None:
    assert values(look_up("FILES-DB.rds.lab.")) == ["127.104.10.250"]
    alias = look_up(f"alias.{ZONE}")
    assert alias is not None and [r.type for r in alias.records] == ["A"]
    assert values(alias) == [EAST]


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "answers"),
    [
        (API, "AAAA", "NOERROR", 0),
        (f"deep.{ZONE}", "A", "NOERROR", 0),
        (f"a.deep.{ZONE}", "TXT", "NOERROR", 1),
        (f"missing.{ZONE}", "A", "NXDOMAIN", 0),
        (f"gone.{ZONE}", "A", "NXDOMAIN", 1),
        (f"out.{ZONE}", "A", "NOERROR", 1),
        (f"loop.{ZONE}", "A", "SERVFAIL", 0),
        (f"weighted.{ZONE}", "A", "SERVFAIL", 0),
        (f"www.{ZONE}", "CNAME", "NOERROR", 1),
    ],
)
def test_absent_names_and_absent_types_are_told_apart(
    name: str, kind: str, rcode: str, answers: int
) -> None:
    answer = look_up(name, kind)
    assert answer is not None
    assert (answer.rcode, len(answer.records)) == (rcode, answers)


def test_names_of_other_zones_are_not_answered() -> None:
    assert look_up("example.com") is None
    assert look_up(f"not{ZONE}") is None


def test_a_ttl_is_never_below_a_second() -> None:
    assert [ttl(20, 10), ttl(5, 10), ttl(60, 1)] == [2, 1, 60]


def answer_for_server(name: str, kind: str) -> Answer | None:
    if name == "crash.lab":
        raise KeyError(name)
    if name == "big.lab":
        return Answer(tuple(Record(name, "TXT", 1, f"{n:0200d}") for n in range(20)))
    return look_up(name, kind)


async def ask(name: str, kind: str, *, tcp: bool = False) -> dns.message.Message:
    async with DnsServer("127.104.0.53", 0, answer_for_server) as server:
        query = dns.message.make_query(name, kind)
        send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await send(query, server.host, port=server.port, timeout=2)


@pytest.mark.parametrize("tcp", [False, True])
def test_a_resolver_gets_the_chain_over_udp_and_tcp(tcp: bool) -> None:
    reply = asyncio.run(ask(f"DB-Writer.{ZONE}", "A", tcp=tcp))
    assert reply.flags & dns.flags.AA
    assert [r.rdtype for r in reply.answer] == [dns.rdatatype.CNAME, dns.rdatatype.A]


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        (f"missing.{ZONE}", dns.rcode.NXDOMAIN),
        (f"deep.{ZONE}", dns.rcode.NOERROR),
        ("example.com", dns.rcode.REFUSED),
        ("crash.lab", dns.rcode.SERVFAIL),
    ],
)
def test_the_reply_code_says_why_there_is_no_answer(name: str, rcode: dns.rcode.Rcode) -> None:
    reply = asyncio.run(ask(name, "A"))
    assert (reply.rcode(), len(reply.answer)) == (rcode, 0)
    negative = rcode in (dns.rcode.NXDOMAIN, dns.rcode.NOERROR)
    assert bool(reply.authority) == negative


def test_a_reply_too_long_for_udp_is_truncated_and_whole_over_tcp() -> None:
    assert asyncio.run(ask("big.lab", "TXT")).flags & dns.flags.TC
    assert len(asyncio.run(ask("big.lab", "TXT", tcp=True)).answer[0]) == 20


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x00",
        b"\xff" * 11,
        b"\x12\x34\x01\x00\xff\xff" + b"\x00" * 6,
        b"\x12\x34\x01\x00\x00\x01" + b"\x00" * 6 + b"\xc0\x0c" * 4,
        b"\x12\x34\x01\x00\x00\x01" + b"\x00" * 6 + b"\x3fabc",
        struct.pack("!6H", 7, 0x8000, 0, 0, 0, 0),
    ],
)
def test_a_bad_packet_neither_ends_the_server_nor_is_answered_as_good(packet: bytes) -> None:
    server = DnsServer("127.104.0.53", 0, answer_for_server)
    reply = server.reply(packet, udp=True)
    assert reply is None or reply[3] & 0x0F == dns.rcode.FORMERR
    good = dns.message.make_query(API, "A").to_wire()
    assert server.reply(good, udp=True)
    assert server.queries == 1


def test_a_tcp_client_that_sends_half_a_query_does_not_stop_the_others() -> None:
    async def scene() -> dns.message.Message:
        async with DnsServer("127.104.0.53", 0, answer_for_server) as server:
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"\x00\x50half")
            await writer.drain()
            query = dns.message.make_query(API, "A")
            reply = await dns.asyncquery.tcp(query, server.host, port=server.port, timeout=2)
            writer.close()
            return reply

    assert asyncio.run(scene()).answer
