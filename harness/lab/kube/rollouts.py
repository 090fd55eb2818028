"""The Rollout controller: canary with traffic routing, and blue/green, as Argo Rollouts does them.

A Rollout's pod template is a version; each has a ReplicaSet of its own. Fields of the status,
labels, messages and delays are those of ``argoproj.io/v1alpha1``, so that what watches and
drives Argo Rollouts does the same here. What is not served is refused when it is written
(:mod:`harness.lab.kube.rolloutspec`).

    canary      setWeight ─► pods up, then weight ─► pause ─► … ─► all pods up ─► stable
                    background analysis fails, or abort: true ─► weight 0 ─► pods down
    blue/green  all pods up ─► (pause) ─► active service switched ─► stable ─► old pods down
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from harness.lab.kube import analysis, kinds
from harness.lab.kube.apierror import ApiError
from harness.lab.kube.controller import Key
from harness.lab.kube.deployments import template_hash
from harness.lab.kube.objects import (
    Obj,
    annotations_of,
    at,
    clone,
    controller_of,
    is_terminating,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_reference,
    parse_timestamp,
    set_condition,
    timestamp,
    uid_of,
)
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.rolloutspec import duration_s
from harness.lab.kube.store import Change

HASH_LABEL = "rollouts-pod-template-hash"
REVISION = "rollout.argoproj.io/revision"
_DEADLINE = "scale-down-deadline"
_SCALE_DOWN_S = 30
_COMPONENT = "rollouts-controller"
_CANARY_PAUSE, _BLUE_GREEN_PAUSE = "CanaryPauseStep", "BlueGreenPause"
_INCONCLUSIVE = "InconclusiveAnalysisRun"


class RolloutController:
    """Brings Rollouts in line; tells of every one whose traffic may have to be shifted."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._callbacks: list[Callable[[str, str], None]] = []

    def on_change(self, callback: Callable[[str, str], None]) -> None:
        """Call with (namespace, name) when the status of a Rollout has been written."""
        self._callbacks.append(callback)

    def keys_for(self, change: Change) -> Iterable[Key]:
        if change.resource == kinds.ROLLOUT.storage:
            yield namespace_of(change.obj), name_of(change.obj)
        elif change.resource in (kinds.REPLICASET.storage, kinds.ANALYSIS_RUN.storage):
            owner = controller_of(change.obj)
            if owner and owner["kind"] == "Rollout":
                yield namespace_of(change.obj), owner["name"]

    def reconcile(self, key: Key) -> float | None:
        rollout = self._registry.store.get(kinds.ROLLOUT.storage, *key)
        if rollout is None or is_terminating(rollout):
            return None
        wait_s = _Pass(self._registry, rollout).run()
        for callback in tuple(self._callbacks):
            callback(*key)
        return wait_s


class _Pass:
    """One look at one Rollout: what it is to be now, and how its status is to read."""

    def __init__(self, registry: Registry, rollout: Obj) -> None:
        self._registry = registry
        self._rollout = rollout
        self._key = namespace_of(rollout), name_of(rollout)
        self._spec: Obj = rollout["spec"]
        self._status: Obj = clone(rollout.get("status") or {})
        self._canary: Obj | None = at(self._spec, "strategy.canary")
        self._strategy: Obj = self._canary or at(self._spec, "strategy.blueGreen", {})
        self._waits: list[float] = []
        self._now_s = registry.clock.wall_s()
        self._sets = self._owned()
        self._new: Obj = {}
        self._new = self._current()
        self._hash = _hash_of(self._new)

    @property
    def _replicas(self) -> int:
        return int(self._spec.get("replicas", 1))

    @property
    def _steps(self) -> list[Obj]:
        return list(self._strategy.get("steps") or ())

    def run(self) -> float | None:
        """Do what is due; returns seconds after which to look again."""
        status = self._status
        if status.get("currentPodHash") != self._hash:
            self._begin()
        stable = self._set_of(status.get("stableRS"))
        if stable is None:
            self._first()
        elif status["stableRS"] == self._hash:
            self._at_rest()
        elif self._canary is not None:
            self._try_canary(stable)
        else:
            self._blue_green(stable)
        self._drop_history()
        self._write()
        return min(self._waits, default=None)

    def _begin(self) -> None:
        """Another version is asked for: whatever was under way is over."""
        for key in ("abort", "abortedAt", "pauseConditions", "controllerPause", "promoteFull"):
            self._status.pop(key, None)
        self._end_analysis()
        at(self._status, "canary", {}).pop("currentBackgroundAnalysisRunStatus", None)
        self._status["currentPodHash"] = self._hash
        self._status["currentStepIndex"] = 0

    # -- ReplicaSets ---------------------------------------------------------------------------

    def _owned(self) -> list[Obj]:
        """Its ReplicaSets, oldest first."""
        found = [
            replicaset
            for replicaset in self._registry.store.list(kinds.REPLICASET.storage, self._key[0])
            if (controller_of(replicaset) or {}).get("uid") == uid_of(self._rollout)
        ]
        return sorted(found, key=_revision)

    def _current(self) -> Obj:
        """The ReplicaSet of the template asked for, made where there is none; newest revision."""
        wanted = template_hash(self._spec["template"])
        found = next((s for s in self._sets if _hash_of(s) == wanted), None)
        latest = max((_revision(s) for s in self._sets), default=0)
        if found is None:
            found = self._create(wanted, latest + 1)
            self._sets.append(found)
        elif _revision(found) < latest:
            found = self._change(found, lambda obj: _annotate(obj, REVISION, str(latest + 1)))
        return found

    def _create(self, hash_: str, revision: int) -> Obj:
        template = clone(self._spec["template"])
        template["metadata"].setdefault("labels", {})[HASH_LABEL] = hash_
        selector = clone(self._spec["selector"])
        selector.setdefault("matchLabels", {})[HASH_LABEL] = hash_
        name = f"{self._key[1]}-{hash_}"
        body = {
            "metadata": {
                "name": name,
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {REVISION: str(revision)},
                "ownerReferences": [owner_reference(self._rollout)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        created = self._registry.create(kinds.REPLICASET, self._key[0], body)
        self._tell("NewReplicaSetCreated", f"Created ReplicaSet {name} (revision {revision})")
        return created

    def _change(self, replicaset: Obj, change: Callable[[Obj], None]) -> Obj:
        key = self._key[0], name_of(replicaset)
        changed = self._registry.mutate(kinds.REPLICASET, *key, change) or replicaset
        same = uid_of(replicaset)
        self._sets = [changed if uid_of(s) == same else s for s in self._sets]
        if uid_of(self._new) == same:
            self._new = changed
        return changed

    def _scale(self, replicaset: Obj, replicas: int) -> None:
        """Give a ReplicaSet that is in use so many pods."""
        before = at(replicaset, "spec.replicas", 0)

        def change(obj: Obj) -> None:
            obj["spec"]["replicas"] = replicas
            (obj["metadata"].get("annotations") or {}).pop(_DEADLINE, None)

        self._change(replicaset, change)
        if before != replicas:
            what = f"Scaled ReplicaSet {name_of(replicaset)} from {before} to {replicas}"
            self._tell("ScalingReplicaSet", what)

    def _retire(self, replicaset: Obj, after_s: int) -> None:
        """Take a ReplicaSet's pods away, some time after nobody is sent to them any more."""
        if not at(replicaset, "spec.replicas", 0):
            return
        deadline = annotations_of(replicaset).get(_DEADLINE)
        if deadline is None:
            due = timestamp(self._now_s + after_s)
            self._change(replicaset, lambda obj: _annotate(obj, _DEADLINE, due))
            self._waits.append(max(0.1, float(after_s)))
        elif (left_s := parse_timestamp(deadline) - self._now_s) > 0:
            self._waits.append(left_s)
        else:
            self._scale(replicaset, 0)

    def _retire_others(self, *kept: Obj) -> None:
        uids = {uid_of(s) for s in kept}
        delay_s = int(self._strategy.get("scaleDownDelaySeconds", _SCALE_DOWN_S))
        for replicaset in [s for s in self._sets if uid_of(s) not in uids]:
            self._retire(replicaset, delay_s)

    def _set_of(self, hash_: str | None) -> Obj | None:
        return next((s for s in self._sets if hash_ and _hash_of(s) == hash_), None)

    def _drop_history(self) -> None:
        kept = {self._hash, self._status.get("stableRS")}
        unused = [
            s
            for s in self._sets
            if _hash_of(s) not in kept
            and not at(s, "spec.replicas", 0)
            and not at(s, "status.replicas", 0)
            and not is_terminating(s)
        ]
        limit = int(self._spec.get("revisionHistoryLimit", 10))
        for replicaset in unused[: max(0, len(unused) - limit)]:
            self._registry.delete(
                kinds.REPLICASET, self._key[0], name_of(replicaset), DeleteOptions()
            )

    # -- services and weights --------------------------------------------------------------------

    def _select(self, service: str | None, hash_: str) -> None:
        """Have a Service send to the pods of one version only."""
        if not service:
            return

        def change(obj: Obj) -> None:
            obj["spec"].setdefault("selector", {})[HASH_LABEL] = hash_

        self._registry.mutate(kinds.SERVICE, self._key[0], service, change)

    def _weigh(self, weight: int, stable: str) -> None:
        """Send this percentage of the users to the new version."""
        canary, strategy = self._status.setdefault("canary", {}), self._strategy
        shown = self._hash if weight else stable
        canary["weights"] = {
            "canary": {
                "weight": weight,
                "serviceName": strategy.get("canaryService"),
                "podTemplateHash": shown,
            },
            "stable": {
                "weight": 100 - weight,
                "serviceName": strategy.get("stableService"),
                "podTemplateHash": stable,
            },
        }

    def _point(self, stable: str, latest: str) -> None:
        """Have the Services select these versions."""
        if self._canary is not None:
            self._select(self._strategy.get("stableService"), stable)
            self._select(self._strategy.get("canaryService"), latest)
            return
        self._select(self._strategy.get("activeService"), stable)
        self._select(self._strategy.get("previewService"), latest)
        selectors = self._status.setdefault("blueGreen", {})
        selectors.update(activeSelector=stable, previewSelector=latest)

    # -- at rest -----------------------------------------------------------------------------------

    def _first(self) -> None:
        """The very first version goes to everybody, without a trial."""
        self._scale(self._new, self._replicas)
        self._point(self._hash, self._hash)
        if _available(self._new) >= self._replicas:
            self._settle()

    def _settle(self) -> None:
        """The version asked for is the one everybody is on."""
        self._status["stableRS"] = self._hash
        self._at_rest()

    def _at_rest(self) -> None:
        for key in ("abort", "abortedAt", "pauseConditions", "controllerPause", "promoteFull"):
            self._status.pop(key, None)
        self._status["currentStepIndex"] = len(self._steps)
        self._point(self._hash, self._hash)
        if self._canary is not None:
            self._weigh(0, self._hash)
        self._scale(self._new, self._replicas)
        self._end_analysis()
        self._retire_others(self._new)

    # -- canary ------------------------------------------------------------------------------------

    def _try_canary(self, stable: Obj) -> None:
        self._point(_hash_of(stable), self._hash)
        self._scale(stable, self._replicas)
        self._retire_others(stable, self._new)
        if "weights" not in self._status.setdefault("canary", {}):
            self._weigh(0, _hash_of(stable))
        self._analyse()
        if self._status.get("abort"):
            self._give_up(stable)
        elif self._waits_for_user(_INCONCLUSIVE):
            return
        elif self._status.get("promoteFull") or self._step_index >= len(self._steps):
            self._scale(self._new, self._replicas)
            if _available(self._new) >= self._replicas:
                self._settle()
        else:
            self._step(stable, self._steps[self._step_index])

    @property
    def _step_index(self) -> int:
        return int(self._status.get("currentStepIndex") or 0)

    def _step(self, stable: Obj, step: Obj) -> None:
        if "pause" in step:
            duration = (step["pause"] or {}).get("duration")
            done = self._paused(_CANARY_PAUSE, duration)
        else:
            weight = int(step["setWeight"])
            pods = math.ceil(self._replicas * weight / 100)
            self._scale(self._new, pods)
            done = _available(self._new) >= pods
            if done:
                self._weigh(weight, _hash_of(stable))
        if done:
            self._status["currentStepIndex"] = self._step_index + 1
            self._waits.append(0.0)

    def _waits_for_user(self, reason: str) -> bool:
        return any(c["reason"] == reason for c in self._status.get("pauseConditions") or ())

    def _paused(self, reason: str, duration: Any) -> bool:
        """Whether a pause is over: its time has passed, or a user cleared its condition."""
        conditions = self._status.get("pauseConditions") or []
        if not conditions and self._status.get("controllerPause"):
            self._status.pop("controllerPause")
            return True
        if not conditions:
            conditions = [{"reason": reason, "startTime": timestamp(self._now_s)}]
            self._status.update(pauseConditions=conditions, controllerPause=True)
        if duration is None:
            return False
        left_s = parse_timestamp(conditions[0]["startTime"]) - self._now_s
        left_s += duration_s(duration)
        if left_s > 0:
            self._waits.append(left_s)
            return False
        self._status.pop("pauseConditions")
        self._status.pop("controllerPause", None)
        return True

    def _give_up(self, stable: Obj) -> None:
        """Nobody is sent to the new version any more; its pods go a while later."""
        self._status.setdefault("abortedAt", timestamp(self._now_s))
        self._status["currentStepIndex"] = 0
        for key in ("pauseConditions", "controllerPause", "promoteFull"):
            self._status.pop(key, None)
        if self._canary is not None:
            self._weigh(0, _hash_of(stable))
        self._end_analysis()
        delay = self._strategy.get("abortScaleDownDelaySeconds", _SCALE_DOWN_S)
        if int(delay) > 0:
            self._retire(self._new, int(delay))

    # -- analysis ----------------------------------------------------------------------------------

    def _analyse(self) -> None:
        """Start the background analysis when it is due, and heed what it says."""
        asked = self._strategy.get("analysis")
        if not asked:
            return
        canary = self._status.setdefault("canary", {})
        known = canary.get("currentBackgroundAnalysisRunStatus")
        if known is None:
            due = self._step_index >= int(asked.get("startingStep") or 0)
            if due and not self._status.get("abort") and not self._status.get("promoteFull"):
                self._start_analysis(asked)
            return
        run = self._registry.store.get(kinds.ANALYSIS_RUN.storage, self._key[0], known["name"])
        if run is None or self._status.get("abort"):
            return
        phase, message = at(run, "status.phase", analysis.RUNNING), at(run, "status.message", "")
        canary["currentBackgroundAnalysisRunStatus"] = {
            "name": known["name"],
            "status": phase,
            **({"message": message} if message else {}),
        }
        if known["status"] in analysis.DONE:
            return
        if phase in (analysis.FAILED, analysis.ERROR):
            self._status["abort"] = True
            self._tell("RolloutAborted", f"{self._aborted()}: {message}", warning=True)
        elif phase == analysis.INCONCLUSIVE:
            paused = [{"reason": _INCONCLUSIVE, "startTime": timestamp(self._now_s)}]
            self._status.update(pauseConditions=paused, controllerPause=True)

    def _start_analysis(self, asked: Obj) -> None:
        name = f"{self._key[1]}-{self._hash}-{_revision(self._new)}"
        try:
            templates = [
                self._registry.get(kinds.ANALYSIS_TEMPLATE, self._key[0], t["templateName"])
                for t in asked.get("templates") or ()
            ]
            args = {arg["name"]: self._argument(arg) for arg in asked.get("args") or ()}
            labels = {HASH_LABEL: self._hash, "rollout-type": "Background"}
            body = analysis.run_from(templates, args, name=name, labels=labels)
            body["metadata"]["ownerReferences"] = [owner_reference(self._rollout)]
            if self._registry.store.get(kinds.ANALYSIS_RUN.storage, self._key[0], name):
                # The same version is tried again: what was found the last time is of no use.
                self._registry.delete(kinds.ANALYSIS_RUN, self._key[0], name, DeleteOptions())
            self._registry.create(kinds.ANALYSIS_RUN, self._key[0], body)
        except (ApiError, ValueError) as error:
            self._status["abort"] = True
            self._tell("RolloutAborted", f"{self._aborted()}: {error}", warning=True)
            return
        running = {"name": name, "status": analysis.RUNNING}
        self._status["canary"]["currentBackgroundAnalysisRunStatus"] = running

    def _argument(self, arg: Obj) -> str:
        """The value of an argument: as given, of a version's hash, or of the Rollout's field."""
        source = arg.get("valueFrom") or {}
        if "podTemplateHashValue" in source:
            latest = source["podTemplateHashValue"] == "Latest"
            return self._hash if latest else str(self._status.get("stableRS"))
        if "fieldRef" in source:
            return str(at(self._rollout, source["fieldRef"]["fieldPath"], ""))
        return str(arg.get("value", ""))

    def _end_analysis(self) -> None:
        known = at(self._status, "canary.currentBackgroundAnalysisRunStatus")
        if not known or known["status"] in analysis.DONE:
            return

        def change(obj: Obj) -> None:
            obj["spec"]["terminate"] = True

        self._registry.mutate(kinds.ANALYSIS_RUN, self._key[0], known["name"], change)

    # -- blue/green --------------------------------------------------------------------------------

    def _blue_green(self, stable: Obj) -> None:
        self._point(_hash_of(stable), self._hash)
        self._retire_others(stable, self._new)
        self._scale(stable, self._replicas)
        if self._status.get("abort"):
            self._give_up(stable)
            return
        self._scale(self._new, self._replicas)
        if _available(self._new) < self._replicas:
            return
        automatic = self._strategy.get("autoPromotionEnabled", True)
        after = self._strategy.get("autoPromotionSeconds")
        waits = not automatic or after
        if not waits or self._status.get("promoteFull") or self._paused(_BLUE_GREEN_PAUSE, after):
            self._settle()

    # -- status ------------------------------------------------------------------------------------

    def _aborted(self) -> str:
        return f"Rollout aborted update to revision {_revision(self._new)}"

    def _phase(self) -> tuple[str, str]:
        status, updated = self._status, at(self._new, "status.replicas", 0)
        if status.get("abort"):
            run = at(status, "canary.currentBackgroundAnalysisRunStatus", {})
            why = f": {run['message']}" if run.get("message") else ""
            return "Degraded", f"RolloutAborted: {self._aborted()}{why}"
        if status.get("pauseConditions"):
            return "Paused", str(status["pauseConditions"][0]["reason"])
        if updated < self._replicas:
            return "Progressing", "more replicas need to be updated"
        if _available(self._new) < self._replicas:
            return "Progressing", "updated replicas are still becoming available"
        if status.get("stableRS") != self._hash:
            waiting = "all steps to complete" if self._canary else "the active service to switch"
            return "Progressing", f"waiting for {waiting}"
        return "Healthy", ""

    def _write(self) -> None:
        phase, message = self._phase()
        sums = {
            "replicas": sum(at(s, "status.replicas", 0) for s in self._sets),
            "updatedReplicas": at(self._new, "status.replicas", 0),
            "readyReplicas": sum(at(s, "status.readyReplicas", 0) for s in self._sets),
            "availableReplicas": sum(map(_available, self._sets)),
            "HPAReplicas": sum(at(s, "status.replicas", 0) for s in self._sets),
        }
        stays = {k: v for k, v in self._status.items() if k not in (*sums, "message")}
        status = {
            **stays,
            **{k: v for k, v in sums.items() if v},
            "phase": phase,
            # As text: so it is in this API.
            "observedGeneration": str(meta(self._rollout).get("generation", 1)),
            **({"message": message} if message else {}),
        }
        now = self._registry.now()

        def change(obj: Obj) -> None:
            obj["status"] = clone(status)
            _annotate(obj, REVISION, str(_revision(self._new)))
            for kind, holds in (
                ("Available", _available_in(status) >= self._replicas),
                ("Healthy", phase == "Healthy"),
                ("Paused", phase == "Paused"),
                ("Progressing", phase != "Degraded"),
            ):
                reason = "RolloutAborted" if status.get("abort") else f"Rollout{phase}"
                text = "True" if holds else "False"
                set_condition(obj, kind, text, now, reason=reason, message=message)

        self._registry.mutate(kinds.ROLLOUT, *self._key, change)

    def _tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        record = self._registry.events.record
        record(self._rollout, reason, message, source=_COMPONENT, warning=warning)


def _available_in(status: Obj) -> int:
    return int(status.get("availableReplicas", 0))


def _available(replicaset: Obj) -> int:
    """Pods available; none of a ReplicaSet whose newest wish nobody has looked at yet."""
    if at(replicaset, "status.observedGeneration", 0) < meta(replicaset).get("generation", 1):
        return 0
    return int(at(replicaset, "status.availableReplicas", 0))


def _hash_of(replicaset: Obj) -> str:
    return labels_of(replicaset).get(HASH_LABEL, "")


def _revision(replicaset: Obj) -> int:
    return int(annotations_of(replicaset).get(REVISION, 0))


def _annotate(obj: Obj, key: str, value: str) -> None:
    obj["metadata"].setdefault("annotations", {})[key] = value
