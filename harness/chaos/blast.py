"""The blast radius: what each fault of a plan would hit, resolved as the fault itself does it.

The actions run here in a session that makes nothing: what they choose, check (tags, caps, that
it is there and at rest) and refuse is what they will choose, check and refuse later. What was
shown before the run is written to ``aims.json``; when a fault is made and its targets are
others by then, it is not made.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.chaos import session as sessions
from harness.chaos.registry import Reach
from harness.chaos.session import AIMS_NAME, Session
from harness.clock import Clock
from harness.errors import Refused, Where
from harness.evidence.run import write_atomic
from harness.plan.experiment import Activity, Experiment, read_experiment
from harness.plan.functions import ACTIONS
from harness.plan.model import Fault, Plan
from harness.target.connect import resolve
from harness.target.model import Target
from harness.target.preflight import Finding

#: Actions that break nothing.
_HARMLESS = frozenset(
    {"harness.chaos.actions.undo.undo_all", "harness.chaos.actions.wait.recovered"}
)
#: There is one session in a process.
_lock = threading.Lock()


@dataclass(frozen=True)
class Aim:
    """What one action would hit: ``targets`` of ``of`` there are (None: nobody counted)."""

    fault: str
    action: str
    targets: tuple[str, ...]
    of: int | None

    @property
    def share(self) -> float | None:
        """Which share of all is hit."""
        return len(self.targets) / self.of if self.of else None


class _Looking(Session):
    """A session in which no fault is made."""

    def __init__(self, fault: str, clock: Clock, reach: Reach) -> None:
        self.target_file, self.run_dir, self.fault, self.clock = "", Path("before"), fault, clock
        self._reach_for = lambda _: reach
        self.aims: list[Aim] = []

    def make_fault(
        self,
        *,
        action: str,
        targets: Sequence[str],
        aim: Sequence[str] | None = None,
        of: int | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        chosen = tuple(sorted(targets if aim is None else aim))
        self.aims.append(Aim(self.fault, action, chosen, of))
        return {}


class BlastRadius:
    """What the faults of a plan would hit on a target. ``aims`` is filled by :meth:`look`."""

    def __init__(self, plan: Plan, reach: Reach, clock: Clock) -> None:
        self._plan, self._reach, self._clock = plan, reach, clock
        self.aims: tuple[Aim, ...] = ()

    def look(self) -> Finding:
        """Preflight's finding. Raises Refused as the actions do, PlanInvalid as the reader does."""
        found: list[Aim] = []
        for fault in self._plan.faults:
            aims = self._aims_of(fault)
            for aim in aims:
                require_within(aim, fault.at_most, fault.share)
            found += aims
        self.aims = tuple(found)
        ours = inside(found, self._reach)
        if ours:
            hint = "run from, and ask a Prometheus, outside of what is broken"
            return False, f"inside of what will be broken: {'; '.join(ours)}", hint
        return True, "; ".join(map(_told, found)) or "no fault", ""

    def write(self, run_dir: Path) -> None:
        """``aims.json``: what was shown, for the moment each fault is made."""
        caps = {fault.name: fault for fault in self._plan.faults}
        document = {
            name: {
                "at_most": fault.at_most,
                "share": fault.share,
                "aims": [
                    {"action": aim.action, "targets": aim.targets, "of": aim.of}
                    for aim in self.aims
                    if aim.fault == name
                ],
            }
            for name, fault in caps.items()
        }
        write_atomic(run_dir / AIMS_NAME, json.dumps(document, indent=1).encode())

    def _aims_of(self, fault: Fault) -> list[Aim]:
        experiment = read_experiment(Path(fault.experiment), Where(self._plan.file))
        looking = _Looking(fault.name, self._clock, self._reach)
        with _lock:
            before = sessions.existing()
            sessions.use(looking)
            try:
                for activity in experiment.method:
                    _act(activity, experiment)
            finally:
                sessions.use(before)
        return looking.aims


def _act(activity: Activity, experiment: Experiment) -> None:
    """Call an action of ours as Chaos Toolkit would; one of others is not called."""
    from chaoslib import substitute
    from chaoslib.configuration import load_configuration

    provider = activity.provider.data
    name = f"{provider['module']}.{provider['func']}"
    if activity.type != "action" or name not in ACTIONS or name in _HARMLESS:
        return
    configuration = load_configuration(json.loads(json.dumps(experiment.configuration)))
    given: Mapping[str, Any] = json.loads(json.dumps(provider.get("arguments") or {}))
    arguments = substitute(given, configuration, {}) if given else {}
    getattr(importlib.import_module(provider["module"]), provider["func"])(**arguments)


def require_within(aim: Aim, at_most: int | None, share: float | None) -> None:
    """Raise Refused where the aim hits nothing, or more than its caps by count or by share."""
    where = f"{aim.action} of {aim.fault}"
    if not aim.targets:
        raise Refused(f"{where} hits nothing", hint="check the names in the experiment")
    if at_most is not None and len(aim.targets) > at_most:
        raise Refused(
            f"{where} hits {len(aim.targets)} targets, at most {at_most} may be: "
            f"{', '.join(aim.targets[:5])}",
            hint=f"raise at_most of {aim.fault} in the plan if that is meant",
        )
    if share is not None and (aim.share is None or aim.share > share + 1e-9):
        said = "nobody counted of how many" if aim.share is None else f"{aim.share:.0%} of {aim.of}"
        raise Refused(
            f"{where} hits {len(aim.targets)} targets ({said}), at most {share:.0%} may be",
            hint=f"raise share of {aim.fault} in the plan if that is meant",
        )


def inside(aims: Iterable[Aim], reach: Reach) -> list[str]:
    """Which of Prometheus, Alertmanager and this machine have an address in a subnet that is cut
    off."""
    target = reach.target
    cut = {subnet for aim in aims if aim.action.startswith("isolate_") for subnet in aim.targets}
    networks = {}
    for region in target.regions:
        own = sorted(cut & {s for subnets in region.subnets.values() for s in subnets})
        if own:
            found = reach.aws("ec2", region.name).describe_subnets(SubnetIds=own)["Subnets"]
            networks |= {s["SubnetId"]: ipaddress.ip_network(s["CidrBlock"]) for s in found}
    return [
        f"{what} ({address} in {subnet})"
        for what, address in _ours(target)
        for subnet, network in networks.items()
        if ipaddress.ip_address(address) in network
    ]


def _ours(target: Target) -> Iterable[tuple[str, str]]:
    for what, url in (
        ("Prometheus", target.prometheus_url),
        ("Alertmanager", target.alertmanager_url),
    ):
        for address in _addresses(urlsplit(url or "").hostname):
            yield what, address
    for address in resolve(target, urlsplit(target.service_url).hostname or "")[:1]:
        yield "this machine", _own_address(address)


def _addresses(host: str | None) -> list[str]:
    """As the system resolves them, which is how Prometheus is asked; raises OSError."""
    if not host:
        return []
    return sorted({str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)})


def _own_address(towards: str) -> str:
    """The address of this machine that traffic to ``towards`` leaves from; nothing is sent."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((towards, 9))
        return str(sock.getsockname()[0])


def _told(aim: Aim) -> str:
    of = f" of {aim.of}" if aim.of else ""
    return f"{aim.fault}: {aim.action} hits {len(aim.targets)}{of}"
