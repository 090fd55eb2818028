"""Which function undoes which kind of fault, and what it may reach.

An undo record on disk is data: its ``undo_kind`` is looked up here and nowhere
else, so a run folder can never make the harness run code of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, Refused
from harness.target import connect
from harness.target.model import Purpose, Target

#: Modules that register undo functions, loaded before the first lookup.
FAMILIES = (
    "harness.chaos.actions.delivery",
    "harness.chaos.actions.network",
    "harness.chaos.actions.pods",
    "harness.chaos.actions.services",
)

#: What is broken carries this tag (AWS) or label (Kubernetes): its owner has put it there.
ALLOWED = ("chaos", "allowed")


def require_allowed(labels: Mapping[str, str] | None, what: str) -> None:
    """Raise Refused unless its owner has said that ``what`` may be broken."""
    if (labels or {}).get(ALLOWED[0]) != ALLOWED[1]:
        raise Refused(
            f"{what} lacks the label {'='.join(ALLOWED)}",
            hint="label what may be broken (a Deployment: itself and its pod template)",
        )


class Reach:
    """The connections of one target for one purpose, each opened once and kept."""

    def __init__(
        self, target: Target, connections: Any = None, purpose: Purpose = "observe"
    ) -> None:
        """``connections`` has ``aws(target, service, region, purpose)`` and
        ``kubernetes(target, cluster, purpose)``; None: ``harness.target.connect``."""
        self.target = target
        self.purpose = purpose
        self._connections = connections or connect
        self._open: dict[tuple[str, ...], Any] = {}
        self._others: dict[Purpose, Reach] = {}

    def to(self, purpose: Purpose) -> Reach:
        """The reach of the same target for ``purpose``; this one where it makes no difference."""
        if purpose == self.purpose or self.target.access is None:
            return self
        if purpose not in self._others:
            self._others[purpose] = Reach(self.target, self._connections, purpose)
        return self._others[purpose]

    def aws(self, service: str, region: str) -> Any:
        """A boto3 client with deadlines."""
        return self._kept("aws", service, region)

    def kubernetes(self, cluster: str) -> Any:
        """A ``kubernetes.client.ApiClient`` with deadlines."""
        return self._kept("kubernetes", cluster)

    def _kept(self, how: str, *what: str) -> Any:
        key = (how, *what)
        if key not in self._open:
            self._open[key] = getattr(self._connections, how)(self.target, *what, self.purpose)
        return self._open[key]

    def warm(self) -> None:
        """Build what an undo needs, so that it is at hand when seconds count; roles are assumed."""
        for cluster in self.target.clusters:
            self.kubernetes(cluster.name)
        for region in self.target.regions:
            self.aws("ec2", region.name)
            if self.target.identity(self.purpose).role_arn is not None:
                self.aws("sts", region.name).get_caller_identity()


@cache
def reach_for(target_file: str) -> Reach:
    """The (one) reach of the target described in ``target_file``."""
    reader = importlib.import_module("harness.target.reader")
    return Reach(reader.read_target(Path(target_file)))


@dataclass(frozen=True)
class ReadBack:
    """What was seen afterwards, and whether it is what it should be."""

    holds: bool
    observed: Any


@dataclass(frozen=True)
class UndoFunction:
    """How one kind of fault is undone.

    ``restore`` must be safe to call any number of times, also for a fault that was
    never made. ``read_back`` is asked until it holds or ``within_s`` (overridden by
    the record's ``before["within_s"]``) has passed. ``restores`` is False where the
    system must come back by itself and the harness can only look. ``by_hand`` gives the lines
    a person can type into a shell instead (with ``aws`` or ``kubectl``), for when the harness
    cannot; its target is None when the target file cannot be read.
    """

    restore: Callable[[Mapping[str, Any], Reach], None]
    read_back: Callable[[Mapping[str, Any], Reach], ReadBack]
    by_hand: Callable[[Mapping[str, Any], Target | None], list[str]]
    within_s: float = 10.0
    restores: bool = True


def kubectl(target: Target | None, cluster: str, namespace: str) -> list[str]:
    """The words with which a line for ``kubectl`` begins."""
    words = ["kubectl"]
    context = cluster
    if target is not None:
        words += ["--kubeconfig", target.kubeconfig]
        with suppress(KeyError):
            context = target.cluster(cluster).context
        user = connect.impersonated(target, "undo")
        words += [] if user is None else ["--as", user]
    return [*words, "--context", context, "--namespace", namespace]


_functions: dict[str, UndoFunction] = {}


def register(kind: str, function: UndoFunction) -> None:
    """Make ``function`` the undo of records whose ``undo_kind`` is ``kind``."""
    _functions[kind] = function


def undo_function(kind: str) -> UndoFunction:
    """The undo of ``kind``; raises HarnessError for a kind this version does not know."""
    for family in FAMILIES:
        importlib.import_module(family)
    try:
        return _functions[kind]
    except KeyError:
        raise HarnessError(
            f"no undo function of kind {kind!r}",
            hint=f"undo it with the harness version that made the fault; known: "
            f"{', '.join(sorted(_functions))}",
        ) from None
