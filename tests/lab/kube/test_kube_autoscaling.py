"""HorizontalPodAutoscalers by the rules of Kubernetes: how many, how fast, and what they say.

The controller runs on a clock of the test's own, on Deployments whose pods are ready at once.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.clock import ManualClock
from harness.lab.kube import autoscaling, kinds
from harness.lab.kube.apierror import ApiError
from harness.lab.kube.autoscaling import AutoscalerController, Past, Values, decided, wanted
from harness.lab.kube.controller import ControllerManager
from harness.lab.kube.kinds import KindTable
from harness.lab.kube.objects import Obj, condition, quantity, quantity_text
from harness.lab.kube.registry import Registry
from harness.lab.kube.store import Store
from harness.lab.layout import Layout
from harness.lab.manifests import SCALED, manifests

NAMESPACE = "files"


class World:
    """One Deployment, its pods and its autoscaler; ``load`` is what all pods share."""

    def __init__(self, **behavior: Any) -> None:
        self.clock = ManualClock(wall_s=1_700_000_000.0)
        store = Store()
        self.registry = Registry(store, KindTable(), self.clock, random.Random(1))
        self.controller = AutoscalerController(self.registry, self._measure)
        self.load: float | str = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        ControllerManager(store, [self.controller], self._later)
        self.registry.create(kinds.NAMESPACE, "", {"metadata": {"name": NAMESPACE}})
        self.registry.create(kinds.DEPLOYMENT, NAMESPACE, _deployment())
        self._start_pods()
        self.registry.create(kinds.AUTOSCALER, NAMESPACE, _autoscaler(behavior))

    def _later(self, delay_s: float, action: Callable[[], None]) -> Callable[[], None]:
        timer = (self.clock.monotonic_s() + delay_s, next(self._numbers), action)
        heapq.heappush(self._timers, timer)
        return lambda: self._timers.remove(timer) if timer in self._timers else None

    def _measure(
        self, metric: str, pods: Sequence[str], answered: Callable[[Values], None]
    ) -> None:
        assert metric == "requests"
        load = self.load
        answered(load if isinstance(load, str) else dict.fromkeys(pods, load / len(pods)))

    def _start_pods(self) -> None:
        """As many ready pods as the Deployment asks for."""
        have = [p["metadata"]["name"] for p in self.registry.store.list(kinds.POD.storage)]
        for number in range(len(have), self.replicas):
            pod = {
                "metadata": {"name": f"image-{number}", "labels": {"app": "image"}},
                "spec": {"containers": [{"name": "image", "image": "image:v1"}]},
            }
            self.registry.create(kinds.POD, NAMESPACE, pod)
            self.registry.mutate(kinds.POD, NAMESPACE, f"image-{number}", _ready)
        for name in have[self.replicas :]:
            self.registry.store.remove(kinds.POD.storage, NAMESPACE, name)
        self.registry.mutate(
            kinds.DEPLOYMENT, NAMESPACE, "image",
            lambda obj: obj.setdefault("status", {}).update(replicas=self.replicas),
        )  # fmt: skip

    @property
    def replicas(self) -> int:
        deployment = self.registry.get(kinds.DEPLOYMENT, NAMESPACE, "image")
        return int(deployment["spec"]["replicas"])

    @property
    def hpa(self) -> Obj:
        return self.registry.get(kinds.AUTOSCALER, NAMESPACE, "image")

    def said(self, type_: str) -> tuple[str, str]:
        found = condition(self.hpa, type_) or {}
        return found.get("status", ""), found.get("reason", "")

    def run(self, for_s: float) -> list[int]:
        """Let time pass; the number of pods after each second."""
        seen = []
        end_s = self.clock.monotonic_s() + for_s
        while self.clock.monotonic_s() < end_s:
            self.clock.advance(1.0)
            while self._timers and self._timers[0][0] <= self.clock.monotonic_s():
                heapq.heappop(self._timers)[2]()
            self._start_pods()
            seen.append(self.replicas)
        return seen


def _ready(pod: Obj) -> None:
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]


def _deployment() -> Obj:
    template = {
        "metadata": {"labels": {"app": "image"}},
        "spec": {"containers": [{"name": "image", "image": "image:v1"}]},
    }
    return {
        "metadata": {"name": "image"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "image"}},
            "template": template,
        },
    }


def _autoscaler(behavior: Obj, **spec: Any) -> Obj:
    target = {"type": "AverageValue", "averageValue": "10"}
    metric = {"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": target}}
    return {
        "metadata": {"name": "image"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "image"},
            "minReplicas": 1,
            "maxReplicas": 6,
            "metrics": [metric],
            "behavior": behavior,
            **spec,
        },
    }


def test_as_many_pods_as_the_load_asks_for_and_back_after_the_window() -> None:
    world = World(scaleDown={"stabilizationWindowSeconds": 10})
    world.load = 8.0
    assert set(world.run(10)) == {1}
    world.load = 31.0
    # Twice as many and four more are the most that 15 s allow; four are enough.
    assert world.run(4)[-1] == 4
    assert world.said("AbleToScale")[0] == world.said("ScalingActive")[0] == "True"
    world.run(4)
    status = world.hpa["status"]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (4, 4)
    assert status["currentMetrics"][0]["pods"]["current"]["averageValue"] == "7750m"
    world.load = 8.0
    seen = world.run(20)
    assert seen[7] == 4
    assert world.said("AbleToScale") == ("True", "ReadyForNewScale")
    assert seen[-1] == 1
    events = [e["reason"] for e in world.registry.store.list(kinds.EVENT.storage)]
    assert events.count("SuccessfulRescale") >= 2


def test_no_more_than_the_most_and_says_so() -> None:
    world = World()
    world.load = 500.0
    assert world.run(30)[-1] == 6
    assert world.said("ScalingLimited") == ("True", "TooManyReplicas")


def test_without_a_metric_nothing_is_scaled_and_the_condition_says_why() -> None:
    world = World()
    world.load = 31.0
    world.run(4)
    world.load = "Prometheus is away"
    assert set(world.run(400)) == {4}
    assert world.said("ScalingActive") == ("False", "FailedGetPodsMetric")
    assert "Prometheus is away" in (condition(world.hpa, "ScalingActive") or {})["message"]


def test_defects_measure_and_do_not_scale() -> None:
    idle = World()
    idle.controller.acts = False
    idle.load = 31.0
    assert set(idle.run(30)) == {1}
    assert idle.hpa["status"]["desiredReplicas"] == 1
    assert idle.hpa["status"]["currentMetrics"][0]["pods"]["current"]["averageValue"] == "31"
    stuck = World(scaleDown={"stabilizationWindowSeconds": 0})
    stuck.controller.scales_in = False
    stuck.load = 31.0
    stuck.run(4)
    stuck.load = 1.0
    assert set(stuck.run(60)) == {4}


def test_another_type_of_metric_is_said_not_to_be_served() -> None:
    world = World()
    resource = {"type": "Resource", "resource": {"name": "cpu"}}
    world.registry.mutate(
        kinds.AUTOSCALER, NAMESPACE, "image", lambda obj: obj["spec"].update(metrics=[resource])
    )
    world.run(4)
    assert world.said("ScalingActive") == ("False", "InvalidMetricSourceType")


@pytest.mark.parametrize(
    ("values", "ready", "replicas", "expected"),
    [
        ({"a": 20.0}, ["a"], 1, 2),
        ({"a": 10.9}, ["a"], 1, 1),  # within the tolerance
        ({"a": 11.1}, ["a"], 1, 2),
        ({"a": 4.0, "b": 4.0}, ["a", "b"], 2, 1),
        ({"a": 30.0}, ["a", "b"], 2, 3),  # the one without a value counts as idle
        ({"a": 4.0}, ["a", "b"], 2, 2),  # and as busy when there may be fewer
        ({"a": 12.0}, ["a", "b"], 2, 2),  # the answer turns round: as many as before
    ],
)
def test_how_many_one_metric_asks_for(
    values: dict[str, float], ready: list[str], replicas: int, expected: int
) -> None:
    assert wanted(values, ready, 10.0, replicas) == expected


def test_a_metric_that_no_pod_has_asks_for_nothing() -> None:
    with pytest.raises(ValueError, match="no metrics"):
        wanted({}, ["a"], 10.0, 1)


def _decide(asked: list[tuple[float, int]], replicas: int, **spec: Any) -> autoscaling.Decision:
    past = Past(recommended=asked[:-1])
    return decided({"maxReplicas": 20, **spec}, asked[-1][1], replicas, past, asked[-1][0])


def test_down_only_to_the_most_of_the_window() -> None:
    down = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}
    held = _decide([(0.0, 5), (50.0, 2)], 5, **down)
    assert (held.replicas, held.held) == (5, "ScaleDownStabilized")
    assert _decide([(0.0, 5), (70.0, 2)], 5, **down).replicas == 2


def test_up_only_to_the_least_of_the_window() -> None:
    up = {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 30}}}
    assert _decide([(0.0, 1), (20.0, 5)], 1, **up).replicas == 1
    assert _decide([(0.0, 1), (40.0, 5)], 1, **up).replicas == 5


@pytest.mark.parametrize(("select", "expected"), [("Max", 8), ("Min", 4), ("Disabled", 2)])
def test_policies_say_how_many_may_come_in_a_time(select: str, expected: int) -> None:
    policies = [
        {"type": "Pods", "value": 6, "periodSeconds": 10},
        {"type": "Percent", "value": 100, "periodSeconds": 10},
    ]
    spec = {"behavior": {"scaleUp": {"policies": policies, "selectPolicy": select}}}
    assert _decide([(0.0, 15)], 2, **spec).replicas == expected


def test_what_was_changed_lately_counts_against_the_policy() -> None:
    policies = [{"type": "Pods", "value": 2, "periodSeconds": 10}]
    rules = {"policies": policies, "stabilizationWindowSeconds": 0}
    spec = {"maxReplicas": 20, "behavior": {"scaleDown": rules, "scaleUp": rules}}
    past = Past(changed=[(0.0, 2)])
    assert decided(spec, 9, 4, past, 5.0).replicas == 4
    assert decided(spec, 9, 4, Past(changed=[(0.0, 2)]), 11.0).replicas == 6
    assert decided(spec, 1, 4, Past(changed=[(0.0, -1)]), 5.0).replicas == 3
    reason, _ = decided(spec, 1, 4, Past(changed=[(0.0, -1)]), 5.0).limited
    assert reason == "ScaleDownLimit"


def test_quantities() -> None:
    assert [quantity(t) for t in ("500m", "2", "1Ki", 3, "1.5k")] == [0.5, 2, 1024, 3, 1500]
    assert [quantity_text(v) for v in (0.5, 2.0, 7.75)] == ["500m", "2", "7750m"]
    with pytest.raises(ValueError, match="no quantity"):
        quantity("3 pods")


@pytest.mark.parametrize(
    "spec",
    [{"maxReplicas": 0}, {"minReplicas": 7}, {"scaleTargetRef": {}},
     {"metrics": [{"type": "Pods", "pods": {"target": {"averageValue": "many"}}}]}],
)  # fmt: skip
def test_an_autoscaler_that_makes_no_sense_is_refused(spec: Obj) -> None:
    world = World()
    with pytest.raises(ApiError):
        world.registry.create(
            kinds.AUTOSCALER, NAMESPACE, {**_autoscaler({}, **spec), "metadata": {"name": "other"}}
        )


def test_the_lab_scales_a_service_that_it_deploys() -> None:
    layout = Layout(base=101)
    zone = layout.zones[0]
    objects = manifests(layout, zone.cluster, standby=False, version="v1")
    hpa = next(o for o in objects if o["kind"] == "HorizontalPodAutoscaler")
    deployment = next(
        o for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"] == SCALED
    )
    assert hpa["spec"]["scaleTargetRef"]["name"] == SCALED
    assert hpa["spec"]["minReplicas"] == deployment["spec"]["replicas"]
