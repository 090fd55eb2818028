from __future__ import annotations

import asyncio
import struct

import pytest

from harness.clock import ManualClock
from harness.errors import LabError
from harness.lab import manifests
from harness.lab.kube import kinds
from harness.lab.layout import NAMESPACE, SERVICES, ZONES, Layout
from harness.lab.services.auth import Tokens
from harness.lab.services.cache import Cache
from harness.lab.services.dns import DnsError, decode_answer, encode_query
from harness.lab.services.file import matches
from harness.lab.services.gateway import TokenBucket
from harness.lab.services.image import resize
from harness.lab.services.metrics import Metrics
from harness.lab.services.permission import by_role, role_of
from harness.lab.services.pod import PodEnv


def test_a_token_is_good_until_it_expires_and_only_with_its_signature():
    clock = ManualClock()
    tokens = Tokens(b"lab", clock, life_s=60)
    token = tokens.issue("anna")
    assert tokens.verify(token)[0] == "anna"
    with pytest.raises(ValueError, match="signature"):
        Tokens(b"other", clock).verify(token)
    clock.advance(60)
    with pytest.raises(ValueError, match="expired"):
        tokens.verify(token)


def test_a_token_bucket_refuses_beyond_its_rate_and_refills():
    bucket = TokenBucket(2.0, 100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(100.5)


def test_a_dns_answer_through_a_cname_gives_addresses_name_and_lowest_ttl():
    query = encode_query(7, "a.lab")
    cname = b"\x01b\x03lab\x00"
    packet = struct.pack(">6H", 7, 0x8180, 1, 2, 0, 0) + query[12:]
    packet += struct.pack(">3HIH", 0xC00C, 5, 1, 60, len(cname)) + cname
    packet += cname + struct.pack(">2HIH", 1, 1, 2, 4) + bytes([127, 1, 2, 3])
    answer = decode_answer(packet)
    assert answer.addresses == ("127.1.2.3",)
    assert (answer.canonical, answer.ttl_s) == ("b.lab", 2.0)


def test_a_missing_name_is_an_empty_answer_but_a_failing_server_is_an_error():
    body = encode_query(1, "a.lab")[12:]
    assert decode_answer(struct.pack(">6H", 1, 0x8183, 1, 0, 0, 0) + body).addresses == ()
    with pytest.raises(DnsError):
        decode_answer(struct.pack(">6H", 1, 0x8182, 1, 0, 0, 0) + body)
    with pytest.raises(DnsError):
        decode_answer(struct.pack(">6H", 1, 0x8180, 1, 1, 0, 0) + body)


def test_if_none_match_compares_weakly_and_knows_the_star():
    assert matches('W/"a", "b"', '"a"') and matches("*", '"a"')
    assert not matches("", '"a"') and not matches('"c"', '"a"')


def test_what_is_no_image_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="not a JPEG or PNG"):
        resize(b"hello", 100)


def test_roles_decide_unless_ownership_must():
    assert by_role(role_of("viewer-1"), "create") is False
    assert by_role(role_of("anna"), "read") is True
    assert by_role(role_of("anna"), "delete") is None
    assert by_role(role_of("admin"), "delete") is True
    assert by_role(role_of(""), "read") is False


def test_histogram_buckets_are_cumulative_and_a_value_on_a_bound_counts_below_it():
    metrics = Metrics({"pod": 'a"b'})
    for duration_s in (0.2, 0.25, 9.0):
        metrics.observe("s", "o", 200, duration_s)
    text = metrics.render().decode()
    for bound, count in (("0.1", 0), ("0.2", 1), ("0.3", 2), ("5.0", 2), ("+Inf", 3)):
        assert f'op="o",le="{bound}",pod="a\\"b"}} {count}\n' in text
    assert 'http_requests_total{service="s",op="o",code="200",pod="a\\"b"} 3' in text


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.cluster)
def test_manifests_describe_every_service_and_their_environment_can_be_read(zone):
    layout = Layout(9)
    standby = zone.region == "us-west-2"
    objects = manifests.manifests(layout, zone.cluster, standby=standby, version="v7")
    assert [item["kind"] for item in objects].count("Namespace") == 1
    workloads = [o for o in objects if o["kind"] in ("Deployment", "Rollout")]
    budgets = [o for o in objects if o["kind"] == "PodDisruptionBudget"]
    for found in (workloads, budgets):
        assert [o["metadata"]["name"] for o in found] == list(SERVICES)
    rollouts = {
        o["metadata"]["name"]: o["spec"]["strategy"] for o in workloads if o["kind"][0] == "R"
    }
    assert {name: list(strategy) for name, strategy in rollouts.items()} == {
        manifests.CANARY: ["canary"],
        manifests.BLUE_GREEN: ["blueGreen"],
    }
    services = [o["metadata"]["name"] for o in objects if o["kind"] == "Service"]
    extra = {manifests.CANARY_SERVICE, manifests.PREVIEW_SERVICE}
    assert set(services) == {*SERVICES, *extra}
    for item in objects:
        if item["apiVersion"].startswith("argoproj.io"):
            checked = {"Rollout": kinds.ROLLOUT, "AnalysisTemplate": kinds.ANALYSIS_TEMPLATE}
            assert checked[item["kind"]].check(item, None) == []
    expected = manifests.STANDBY_REPLICAS if standby else manifests.ACTIVE_REPLICAS
    for item in workloads:
        assert item["metadata"]["namespace"] == NAMESPACE
        assert item["spec"]["replicas"] == expected[item["metadata"]["name"]]
        template = item["spec"]["template"]
        assert template["metadata"]["labels"]["version"] == "v7"
        given = {e["name"]: e["value"] for e in template["spec"]["containers"][0]["env"]}
        who = {"APP": "file", "CLUSTER": zone.cluster, "ZONE": zone.name, "REGION": zone.region}
        env = PodEnv.read({**given, **who, "POD_NAME": "p", "POD_IP": layout.pod_ips(zone.name)[0]})
        assert env.store.host == layout.store(zone.region)
        assert env.store_peer and env.store_peer.host != env.store.host
        assert env.db_reader == layout.db(zone.name)


def test_an_unknown_defect_or_a_missing_variable_is_named():
    with pytest.raises(LabError, match="POD_IP"):
        PodEnv.read({})
    env = manifests.pod_env(Layout(9), "us-east-1a", ["no-such-defect"])
    who = {"APP": "file", "CLUSTER": "c", "ZONE": "us-east-1a", "REGION": "r", "POD_NAME": "p"}
    with pytest.raises(LabError, match="no-such-defect"):
        PodEnv.read({**env, **who, "POD_IP": "127.9.10.1"})


async def _gone_again(self: Cache) -> None:
    """Connected, and lost before whoever waited for it goes on."""


def test_a_cache_that_is_lost_while_it_connects_is_a_cache_that_is_not_there(monkeypatch):
    monkeypatch.setattr(Cache, "_connect", _gone_again)
    cache = Cache("127.0.0.1", 9)
    assert asyncio.run(cache.get("k")) is None
