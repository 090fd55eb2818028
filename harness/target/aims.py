"""What a plan and its experiments name must be what the target file describes.

The same file of experiments against another account or cluster would break what nobody
meant, or nothing at all; so names are compared before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import PlanInvalid, Where
from harness.plan.experiment import Experiment, read_experiment
from harness.plan.model import Degradation, Plan
from harness.plan.nodes import nearest, where_in
from harness.target.model import Target
from harness.target.promql import metric_names


def require_same_names(plan: Plan, target: Target) -> None:
    """Raise PlanInvalid, with its place, at the first name that is not the target's."""
    _plan_names(plan, target)
    for experiment in experiments_of(plan):
        _experiment_names(experiment, target)


def experiments_of(plan: Plan) -> Iterator[Experiment]:
    """The experiments of the plan's faults, each file once. Raises PlanInvalid."""
    for file in dict.fromkeys(fault.experiment for fault in plan.faults):
        yield read_experiment(Path(file), Where(plan.file))


def queries_of(plan: Plan) -> Iterator[tuple[str, Where]]:
    """The PromQL that a run asks for by its plan and experiments, and where it stands."""
    for key, guards in (("stop_when", plan.guards), ("start_when", plan.starts)):
        for index, guard in enumerate(guards):
            if guard.kind == "prometheus":
                yield guard.subject, where_in(plan.text, plan.file, key, index, "prometheus")
    for objective in plan.objectives:
        if isinstance(objective, Degradation) and objective.breaker:
            yield objective.breaker, Where(plan.file, objective.line, key="breaker")
    for experiment in experiments_of(plan):
        for activity in experiment.activities:
            arguments = activity.provider.data.get("arguments") or {}
            query = arguments.get("query")
            if isinstance(query, str) and "${" not in query:
                yield query, activity.provider.child("arguments").where("query")


def unknown_metrics(plan: Plan, known: Iterable[str]) -> list[tuple[str, Where, str]]:
    """Metrics that Prometheus does not have: name, where it is asked for, and a hint."""
    known = sorted(known)
    return [
        (name, where, nearest(name, known) if known else "is anything scraped?")
        for query, where in queries_of(plan)
        for name in metric_names(query)
        if name not in known
    ]


def _plan_names(plan: Plan, target: Target) -> None:
    named = plan.target
    wanted: list[tuple[str, Any, Any]] = [
        ("primary", named.primary, target.primary),
        ("standby", named.standby, target.standby),
        ("service", named.service, target.service_url),
    ]
    if named.account:
        wanted.append(("account", named.account, target.account))
    for key, mine, found in wanted:
        if mine != found:
            raise PlanInvalid(
                f"the plan is for {key} {mine}, the target is {found}",
                hint=f"change target.{key} in {plan.file}, or --target",
                where=where_in(plan.text, plan.file, "target", key),
            )
    clusters = {cluster.name for cluster in target.clusters}
    for name in named.clusters:
        if name not in clusters:
            where = where_in(plan.text, plan.file, "target", "clusters")
            _unknown("cluster", name, clusters, where)
    regions = {region.name for region in target.regions}
    for index, guard in enumerate(plan.guards):
        key = "safety_lever" if guard.kind == "safety_lever" else "region"
        region = guard.subject if guard.kind == "safety_lever" else guard.region
        if region and region not in regions:
            where = where_in(plan.text, plan.file, "stop_when", index, key)
            _unknown("region", region, regions, where)
    _receivers(plan, target)


def _receivers(plan: Plan, target: Target) -> None:
    described = target.alert_receivers
    if described is not None and (unknown := plan.receivers - set(described.receivers)):
        raise PlanInvalid(
            f"the plan expects alerts at {', '.join(sorted(unknown))}, unknown to the target",
            hint=f"receivers of the target: {', '.join(sorted(described.receivers))}",
            where=Where(plan.file),
        )


def _experiment_names(experiment: Experiment, target: Target) -> None:
    known = {
        "region": {region.name for region in target.regions},
        "cluster": {cluster.name for cluster in target.clusters},
        "zone": {zone for region in target.regions for zone in region.subnets},
    }
    for activity in experiment.activities:
        if activity.provider.data.get("arguments") is None:
            continue
        arguments = activity.provider.child("arguments")
        for key, names in known.items():
            value = arguments.data.get(key)
            if isinstance(value, str) and "${" not in value and value not in names:
                _unknown(key, value, names, arguments.where(key))
    contexts = {cluster.context for cluster in target.clusters}
    for name in experiment.secrets:
        group = experiment.root.child("secrets").child(name)
        context = group.data.get("KUBERNETES_CONTEXT")
        if isinstance(context, str) and context not in contexts:
            _unknown("context of a cluster", context, contexts, group.where("KUBERNETES_CONTEXT"))


def _unknown(what: str, name: str, known: Iterable[str], where: Where) -> None:
    message = f"the target has no {what} {name}"
    raise PlanInvalid(message, hint=nearest(name, sorted(known)) or "it has none", where=where)
