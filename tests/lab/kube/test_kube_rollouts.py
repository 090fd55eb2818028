"""Rollouts by the rules of Argo Rollouts: canary with analysis, blue/green, abort and promotion.

The controllers run on a clock of the test's own, with ReplicaSets whose pods are ready at once.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from harness.clock import ManualClock
from harness.lab.kube import kinds
from harness.lab.kube.analysis import (
    ERROR,
    FAILED,
    INCONCLUSIVE,
    RUNNING,
    SUCCESSFUL,
    AnalysisController,
    Answer,
    assessed,
    measured,
    run_from,
)
from harness.lab.kube.apierror import ApiError
from harness.lab.kube.conditions import ConditionError, check, holds
from harness.lab.kube.controller import ControllerManager, Key
from harness.lab.kube.kinds import KindTable
from harness.lab.kube.objects import Obj, meta, name_of, namespace_of
from harness.lab.kube.registry import Registry
from harness.lab.kube.rollouts import HASH_LABEL, RolloutController
from harness.lab.kube.rolloutspec import duration_s
from harness.lab.kube.store import Change, Store

NAMESPACE = "files"


class ReadyAtOnce:
    """ReplicaSets without pods: as many are available as are wanted, but ``stuck`` ones."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.stuck = False

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.REPLICASET.storage:
            yield namespace_of(change.obj), name_of(change.obj)

    def reconcile(self, key: Key) -> float | None:
        def change(obj: Obj) -> None:
            wanted = obj["spec"]["replicas"]
            seen = meta(obj).get("generation", 1)
            before = (obj.get("status") or {}).get("availableReplicas", 0)
            available = min(wanted, before) if self.stuck else wanted
            obj["status"] = {
                "replicas": wanted,
                "readyReplicas": available,
                "availableReplicas": available,
                "observedGeneration": seen,
            }

        self._registry.mutate(kinds.REPLICASET, *key, change)
        return None


class World:
    """A cluster of the controllers that matter here, driven by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock(wall_s=1_700_000_000.0)
        store = Store()
        self.registry = Registry(store, KindTable(), self.clock, random.Random(1))
        self.pods = ReadyAtOnce(self.registry)
        self.analysis = AnalysisController(self.registry, self._ask)
        self.answer: Answer = [1.0]
        self.asked: list[str] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        controllers = [self.pods, RolloutController(self.registry), self.analysis]
        ControllerManager(store, controllers, self._later)
        self.registry.create(kinds.NAMESPACE, "", {"metadata": {"name": NAMESPACE}})

    def _ask(self, metric: Obj, answered: Callable[[Answer], None]) -> None:
        self.asked.append(metric["provider"]["prometheus"]["query"])
        answered(self.answer)

    def _later(self, delay_s: float, action: Callable[[], None]) -> Callable[[], None]:
        entry = [action]
        due = self.clock.monotonic_s() + delay_s
        run = lambda: entry and entry[0]()  # noqa: E731
        heapq.heappush(self._timers, (due, next(self._numbers), run))
        return entry.clear

    def run(self, seconds: float = 0.0) -> Obj:
        """Let so much time pass; returns the Rollout's status."""
        end = self.clock.monotonic_s() + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, action = heapq.heappop(self._timers)
            self.clock.sleep(max(0.0, due - self.clock.monotonic_s()))
            action()
        self.clock.sleep(max(0.0, end - self.clock.monotonic_s()))
        return self.rollout.get("status") or {}

    @property
    def rollout(self) -> Obj:
        return self.registry.get(kinds.ROLLOUT, NAMESPACE, "gateway")

    def create(self, kind: kinds.Kind, name: str, spec: Obj) -> None:
        body = {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
        self.registry.create(kind, NAMESPACE, body)

    def selected(self, service: str) -> str:
        found = self.registry.get(kinds.SERVICE, NAMESPACE, service)
        return str(found["spec"]["selector"].get(HASH_LABEL))

    def deliver(self, image: str) -> None:
        def change(obj: Obj) -> Obj:
            container = {**obj["spec"]["template"]["spec"]["containers"][0], "image": image}
            spec = {**obj["spec"]["template"]["spec"], "containers": [container]}
            template = {**obj["spec"]["template"], "spec": spec}
            return {**obj, "spec": {**obj["spec"], "template": template}}

        self.registry.patch(kinds.ROLLOUT, NAMESPACE, "gateway", change)

    def tell(self, **status: Any) -> None:
        """What a user says by the status, as ``kubectl argo rollouts`` does."""

        def change(obj: Obj) -> Obj:
            new = {**obj["status"], **status}
            return {**obj, "status": {k: v for k, v in new.items() if v is not None}}

        self.registry.patch(kinds.ROLLOUT, NAMESPACE, "gateway", change, subresource="status")

    def pods_of(self) -> dict[str, int]:
        """image → pods."""
        sets = self.registry.store.list(kinds.REPLICASET.storage, NAMESPACE)
        image = lambda s: s["spec"]["template"]["spec"]["containers"][0]["image"]  # noqa: E731
        return {image(s): s["spec"]["replicas"] for s in sets}


METRIC = {
    "name": "success-rate",
    "initialDelay": "2s",
    "interval": "2s",
    "failureLimit": 1,
    "inconclusiveLimit": 2,
    "successCondition": "len(result) > 0 && result[0] >= 0.95",
    "failureCondition": "len(result) > 0 && result[0] < 0.95",
    "provider": {"prometheus": {"query": 'ok{pod=~"gateway-{{args.hash}}-.*"}'}},
}
CANARY = {
    "stableService": "gateway",
    "canaryService": "gateway-canary",
    "trafficRouting": {"alb": {"ingress": "gateway"}},
    "abortScaleDownDelaySeconds": 3,
    "scaleDownDelaySeconds": 4,
    "analysis": {
        "templates": [{"templateName": "success"}],
        "startingStep": 1,
        "args": [{"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}}],
    },
    "steps": [
        {"setWeight": 20},
        {"pause": {"duration": "10s"}},
        {"setWeight": 60},
        {"pause": {"duration": 10}},
    ],
}
BLUE_GREEN = {
    "activeService": "gateway",
    "previewService": "gateway-canary",
    "scaleDownDelaySeconds": 4,
}


def spec_of(strategy: Obj) -> Obj:
    return {
        "replicas": 4,
        "selector": {"matchLabels": {"app": "gateway"}},
        "strategy": strategy,
        "template": {
            "metadata": {"labels": {"app": "gateway"}},
            "spec": {"containers": [{"name": "gateway", "image": "files/gateway:v1"}]},
        },
    }


def world_of(strategy: Obj) -> World:
    """A Rollout at rest at ``v1``, and its Services."""
    world = World()
    for service in ("gateway", "gateway-canary"):
        ports = [{"port": 8080}]
        world.create(kinds.SERVICE, service, {"selector": {"app": "gateway"}, "ports": ports})
    template = {"args": [{"name": "hash"}], "metrics": [METRIC]}
    world.create(kinds.ANALYSIS_TEMPLATE, "success", template)
    world.create(kinds.ROLLOUT, "gateway", spec_of(strategy))
    status = world.run()
    assert (status["phase"], status["stableRS"]) == ("Healthy", status["currentPodHash"])
    assert status["observedGeneration"] == "1"
    assert world.pods_of() == {"files/gateway:v1": 4}
    return world


@pytest.fixture()
def canary() -> World:
    return world_of({"canary": CANARY})


@pytest.fixture()
def blue_green() -> World:
    return world_of({"blueGreen": BLUE_GREEN})


def weight(status: Obj) -> int:
    return status["canary"]["weights"]["canary"]["weight"]


# ---- canary ------------------------------------------------------------------------------------


def test_a_good_canary_goes_through_its_steps_and_becomes_stable(canary: World) -> None:
    old = canary.rollout["status"]["stableRS"]
    canary.deliver("files/gateway:v2")
    status = canary.run(1)
    assert (status["phase"], status["message"]) == ("Paused", "CanaryPauseStep")
    assert (weight(status), status["currentStepIndex"]) == (20, 1)
    assert status["stableRS"] == old != status["currentPodHash"]
    assert canary.pods_of() == {"files/gateway:v1": 4, "files/gateway:v2": 1}
    assert (canary.selected("gateway"), canary.selected("gateway-canary")) == (
        old,
        status["currentPodHash"],
    )
    status = canary.run(11)
    assert (weight(status), status["currentStepIndex"]) == (60, 3)
    assert canary.pods_of()["files/gateway:v2"] == 3
    assert status["canary"]["currentBackgroundAnalysisRunStatus"]["status"] == RUNNING
    assert canary.asked[0] == f'ok{{pod=~"gateway-{status["currentPodHash"]}-.*"}}'
    status = canary.run(12)
    assert (status["phase"], status["stableRS"]) == ("Healthy", status["currentPodHash"])
    assert (weight(status), canary.selected("gateway")) == (0, status["stableRS"])
    canary.run(5)
    assert canary.pods_of() == {"files/gateway:v1": 0, "files/gateway:v2": 4}
    run = canary.registry.store.list(kinds.ANALYSIS_RUN.storage)[0]
    assert (run["status"]["phase"], run["status"]["message"]) == (SUCCESSFUL, "Run Terminated")


def test_a_bad_canary_is_given_up_and_its_pods_go_a_while_later(canary: World) -> None:
    canary.answer = [0.5]
    old = canary.rollout["status"]["stableRS"]
    canary.deliver("files/gateway:v2")
    assert weight(canary.run(1)) == 20
    status = canary.run(4)
    assert (status["phase"], status["abort"], weight(status)) == ("Degraded", True, 0)
    assert status["message"] == (
        "RolloutAborted: Rollout aborted update to revision 2: "
        'Metric "success-rate" assessed Failed due to failed (2) > failureLimit (1)'
    )
    assert status["stableRS"] == old
    assert canary.pods_of() == {"files/gateway:v1": 4, "files/gateway:v2": 1}
    canary.run(4)
    assert canary.pods_of() == {"files/gateway:v1": 4, "files/gateway:v2": 0}
    canary.deliver("files/gateway:v1")
    status = canary.run(1)
    assert (status["phase"], status["stableRS"], "abort" in status) == ("Healthy", old, False)


def test_an_analysis_that_always_says_success_promotes_a_bad_version(canary: World) -> None:
    canary.answer, canary.analysis.blind = [0.0], True
    canary.deliver("files/gateway:v2")
    status = canary.run(30)
    assert (status["phase"], status["stableRS"]) == ("Healthy", status["currentPodHash"])


def test_without_data_the_rollout_stops_and_waits_for_a_user(canary: World) -> None:
    canary.answer = []
    canary.deliver("files/gateway:v2")
    status = canary.run(30)
    assert (status["phase"], status["message"]) == ("Paused", "InconclusiveAnalysisRun")
    assert weight(status) == 20


def test_a_provider_that_fails_again_and_again_ends_it() -> None:
    world = world_of({"canary": {**CANARY, "steps": [{"setWeight": 20}, {"pause": {}}]}})
    world.answer = "connection refused"
    world.deliver("files/gateway:v2")
    assert world.run(30)["phase"] == "Paused"
    status = world.run(20)
    assert status["phase"] == "Degraded"
    assert "consecutiveErrors (5) > consecutiveErrorLimit (4)" in status["message"]


def test_no_user_is_sent_to_pods_that_are_not_ready(canary: World) -> None:
    canary.pods.stuck = True
    canary.deliver("files/gateway:v2")
    status = canary.run(60)
    assert (weight(status), status["currentStepIndex"]) == (0, 0)
    assert status["phase"] == "Progressing"


def test_users_can_abort_retry_resume_and_promote(canary: World) -> None:
    canary.deliver("files/gateway:v2")
    canary.run(1)
    canary.tell(abort=True)
    status = canary.run(1)
    assert (status["phase"], weight(status)) == ("Degraded", 0)
    canary.tell(abort=None)
    assert weight(canary.run(1)) == 20
    canary.tell(pauseConditions=None)
    assert weight(canary.run(1)) == 60
    canary.tell(promoteFull=True)
    status = canary.run(1)
    assert (status["phase"], status["stableRS"]) == ("Healthy", status["currentPodHash"])
    assert "promoteFull" not in status


def test_going_back_to_the_stable_version_needs_no_trial(canary: World) -> None:
    old = canary.rollout["status"]["stableRS"]
    canary.deliver("files/gateway:v2")
    canary.run(1)
    canary.deliver("files/gateway:v1")
    status = canary.run(1)
    assert (status["phase"], status["stableRS"], weight(status)) == ("Healthy", old, 0)
    canary.run(5)
    assert canary.pods_of() == {"files/gateway:v1": 4, "files/gateway:v2": 0}


# ---- blue/green --------------------------------------------------------------------------------


def test_blue_green_switches_when_all_pods_are_up_and_keeps_the_old_for_a_while(
    blue_green: World,
) -> None:
    old = blue_green.rollout["status"]["stableRS"]
    blue_green.pods.stuck = True
    blue_green.deliver("files/gateway:v2")
    status = blue_green.run(5)
    assert (blue_green.selected("gateway"), status["blueGreen"]["activeSelector"]) == (old, old)
    assert blue_green.selected("gateway-canary") == status["currentPodHash"]
    blue_green.pods.stuck = False
    for replicaset in blue_green.registry.store.list(kinds.REPLICASET.storage):
        blue_green.pods.reconcile((NAMESPACE, name_of(replicaset)))
    status = blue_green.run(1)
    new = status["currentPodHash"]
    assert (status["phase"], status["stableRS"]) == ("Healthy", new)
    assert (blue_green.selected("gateway"), status["blueGreen"]["activeSelector"]) == (new, new)
    assert blue_green.pods_of() == {"files/gateway:v1": 4, "files/gateway:v2": 4}
    blue_green.run(5)
    assert blue_green.pods_of() == {"files/gateway:v1": 0, "files/gateway:v2": 4}


def test_blue_green_without_automatic_promotion_waits_for_a_user() -> None:
    world = world_of({"blueGreen": {**BLUE_GREEN, "autoPromotionEnabled": False}})
    old = world.rollout["status"]["stableRS"]
    world.deliver("files/gateway:v2")
    status = world.run(60)
    assert (status["phase"], status["message"]) == ("Paused", "BlueGreenPause")
    assert world.selected("gateway") == old
    world.tell(pauseConditions=None)
    assert world.run(1)["stableRS"] == world.rollout["status"]["currentPodHash"] != old


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({}, "one of canary and blueGreen"),
        ({"canary": {"steps": []}}, "stableService"),
        ({"canary": {**CANARY, "trafficRouting": None}}, "trafficRouting"),
        ({"canary": {**CANARY, "steps": [{"experiment": {}}]}}, "experiment: not served here"),
        ({"canary": {**CANARY, "steps": [{"setWeight": 101}]}}, "from 0 to 100"),
        ({"canary": {**CANARY, "steps": [{"pause": {"duration": "soon"}}]}}, "not a duration"),
        ({"canary": {**CANARY, "dynamicStableScale": True}}, "dynamicStableScale"),
        ({"blueGreen": {**BLUE_GREEN, "prePromotionAnalysis": {}}}, "prePromotionAnalysis"),
    ],
)
def test_what_is_not_served_is_refused(strategy: Obj, said: str) -> None:
    with pytest.raises(ApiError, match=said):
        World().create(kinds.ROLLOUT, "gateway", spec_of(strategy))


def test_a_template_whose_guard_cannot_work_is_refused() -> None:
    for change in (
        {"successCondition": "result[0] =>"},
        {"failureCondition": "__import__('os')"},
        {"provider": {"web": {}}},
        {"interval": "often"},
        {"faliureLimit": 1},
    ):
        with pytest.raises(ApiError):
            World().create(kinds.ANALYSIS_TEMPLATE, "t", {"metrics": [{**METRIC, **change}]})


# ---- analysis ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        ([0.96], SUCCESSFUL),
        ([0.94], FAILED),
        ([], INCONCLUSIVE),
        ([float("nan")], INCONCLUSIVE),
        ("no answer", ERROR),
    ],
)
def test_a_measurement_is_one_of_four(answer: Answer, phase: str) -> None:
    assert measured(METRIC, answer)[0] == phase


def test_one_condition_decides_alone_and_an_empty_answer_is_an_error_of_it() -> None:
    only_good = {"successCondition": "result[0] >= 0.95"}
    assert measured(only_good, [0.9])[0] == FAILED
    assert measured(only_good, [])[0] == ERROR
    assert measured({"failureCondition": "result[0] < 0.95"}, [1.0])[0] == SUCCESSFUL


def test_limits_decide_what_measurements_amount_to() -> None:
    assert assessed(METRIC, {"failed": 1})[0] == RUNNING
    assert assessed(METRIC, {"failed": 2}) == (FAILED, "failed (2) > failureLimit (1)")
    assert assessed(METRIC, {"inconclusive": 3})[0] == INCONCLUSIVE
    assert assessed({"name": "once"}, {"count": 1})[0] == SUCCESSFUL
    assert assessed({**METRIC, "count": 3}, {"count": 2})[0] == RUNNING


def test_an_argument_that_nobody_gives_is_told() -> None:
    template = {"spec": {"args": [{"name": "hash"}], "metrics": [METRIC]}}
    with pytest.raises(ValueError, match=r"args\.hash"):
        run_from([template], {}, name="r", labels={})


@pytest.mark.parametrize(
    ("condition", "result", "value"),
    [
        ("result[0] >= 0.95", [0.95], True),
        ("len(result) == 0 || result[0] < 1", [], True),
        ("!isNaN(result[0]) && result[0] != 2", [2.0], False),
        ("asFloat(result[0]) * 100 > 95.5", [0.96], True),
        ("true && !(1 < result[0])", [1.0], True),
    ],
)
def test_conditions_mean_what_they_say(condition: str, result: list[float], value: bool) -> None:
    assert check(condition) == ""
    assert holds(condition, result) is value


@pytest.mark.parametrize("condition", ["result", "result[0]", "len(result)", "result.x > 1"])
def test_a_condition_that_is_no_condition_is_an_error(condition: str) -> None:
    with pytest.raises(ConditionError):
        holds(condition, [1.0])


def test_durations_are_those_of_kubernetes() -> None:
    texts = (30, "30", "1m30s", "500ms", "1h")
    assert [duration_s(t) for t in texts] == [30, 30, 90, 0.5, 3600]
    for wrong in ("", "soon", "5 s", "-3s"):
        with pytest.raises(ValueError, match="not a duration"):
            duration_s(wrong)
