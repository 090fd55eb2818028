"""Reads a plan and refuses what it does not understand, naming the place.

Nothing is guessed: an unknown key, a number without unit, a phase that does not exist
or an experiment that is not there is :class:`PlanInvalid` with file, line, column and a
suggestion, before anything is touched. YAML is read in round-trip mode: a duplicate key is
an error, and ``no`` or ``1:30`` stay the text they look like.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from harness.errors import PlanInvalid, Where
from harness.plan.behaviour import Behaviour
from harness.plan.experiment import Experiment, read_experiment
from harness.plan.functions import check_functions, parameters_of
from harness.plan.guard_reader import read_guards, read_starts
from harness.plan.k6 import is_threshold, operation_of, parse_threshold
from harness.plan.logfile import METHODS, SAFE, recording_of
from harness.plan.model import (
    Alert,
    BlueGreen,
    Canary,
    Degradation,
    Durability,
    Failback,
    Failover,
    Fault,
    Objective,
    Plan,
    Recovery,
    RollingUpdate,
    Scaling,
    TargetNames,
    Traffic,
)
from harness.plan.nodes import Node, fail, load_yaml, nearest, relative
from harness.plan.objectives import WORDINGS, objective_of, parse_objective
from harness.plan.quantities import duration_s, fraction, speed_of
from harness.plan.rates import Curve
from harness.plan.shapes import is_shape, parse_rate, scaled_to
from harness.plan.slo import Slo, parse_slo
from harness.plan.slo_files import read_slos

OPERATIONS = ("download", "upload", "image", "list", "delete")
MAX_WORKERS = 512
#: Real incidents are judged over at least this long.
INCIDENTS_OVER_MIN_S = 30 * 86_400.0
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SCOPE_KEYS = (
    "in", "of", "rpo", "for", "slo", "period", "incidents", "over", "degraded", "breaker",
)  # fmt: skip

T = TypeVar("T")


def read_plan(path: Path, *, rate: str | None = None) -> Plan:
    """The plan in ``path``; ``rate`` (such as ``300/s``) overrides the plan's own.

    Where the plan's rate changes over time, it keeps its shape and ``rate`` is its new peak;
    a ``rate`` with a shape of its own replaces it.
    Raises PlanInvalid when the file cannot be read or any part of it is not understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanInvalid(
            f"the plan cannot be read: {error}",
            hint="give the path of a plan, such as experiments/gamedays/lab.yaml",
            where=Where(str(path)),
        ) from error
    return parse_plan(text, path, rate=rate)


def parse_plan(text: str, path: Path, *, rate: str | None = None) -> Plan:
    """The plan written in ``text``; ``path`` is where it is said to be (for errors and
    to find experiments, which are looked for from its folder upwards)."""
    return _Reader(text, path).plan(rate)


class _Reader:
    def __init__(self, text: str, path: Path) -> None:
        self.text, self.path = text, path
        self.file = relative(path)

    def plan(self, rate: str | None) -> Plan:
        root = self._root()
        root.only(
            ("version", "name", "description", "target", "traffic", "baseline", "faults",
             "cool_down", "objectives", "stop_when", "start_when", "functions"),
            ("version", "name", "target", "traffic", "baseline", "objectives"),
        )  # fmt: skip
        version = root.get("version", _version)
        self.experiments: dict[str, Experiment] = {}
        self.functions = tuple(_functions(root))
        faults = self._faults(root) if "faults" in root.data else ()
        baseline_s = root.get("baseline", duration_s)
        cool_down_s = root.get("cool_down", duration_s) if "cool_down" in root.data else 0.0
        planned_s = baseline_s + sum(f.hold_s + f.recovery_s for f in faults) + cool_down_s
        # A fault may take a minute longer than it is held, and generators warm up.
        horizon_s = 1.2 * planned_s + 120.0 * len(faults) + 120.0
        draft = Plan(
            version=version,
            name=root.get("name", _name),
            description=root.get("description", _text) if "description" in root.data else "",
            target=self._target(root.child("target")),
            traffic=self._traffic(root.child("traffic"), rate, horizon_s),
            baseline_s=baseline_s,
            faults=faults,
            cool_down_s=cool_down_s,
            objectives=(),
            file=self.file,
            text=self.text,
            sha256=hashlib.sha256(self.text.encode()).hexdigest(),
        )
        entries = root.items("objectives")
        objectives = tuple(found for node in entries for found in self._objectives(node, draft))
        if not objectives:
            fail("a plan without objectives decides nothing", "add one", root.where("objectives"))
        guards = tuple(read_guards(root, self.experiments)) if "stop_when" in root.data else ()
        starts = tuple(read_starts(root)) if "start_when" in root.data else ()
        return replace(draft, objectives=objectives, guards=guards, starts=starts)

    def _root(self) -> Node:
        found = load_yaml(self.text, self.file)
        if len(found) != 1 or not isinstance(found[0], CommentedMap):
            fail("a plan is a mapping of keys", "start with version: 1", Where(self.file, 1, 1))
        return Node(self.file, found[0], "")

    def _target(self, node: Node) -> TargetNames:
        keys = ("service", "primary", "standby")
        node.only((*keys, "account", "clusters"), keys)
        target = TargetNames(
            service=node.get("service", _url),
            primary=node.get("primary", _name),
            standby=node.get("standby", _name),
            account=node.get("account", _account) if "account" in node.data else "",
            clusters=node.get("clusters", _names) if "clusters" in node.data else (),
        )
        if target.primary == target.standby:
            fail("primary and standby are the same region", "name two", node.where("standby"))
        return target

    def _traffic(self, node: Node, rate: str | None, horizon_s: float) -> Traffic:
        if "recording" in node.data:
            return self._recorded(node, rate, horizon_s)
        keys = ("locustfile", "rate", "arrivals", "seed", "mix", "timeout")
        node.only((*keys, *BEHAVIOUR_KEYS, "recording", "workers", "entry"), keys)
        words = node.get("rate", _rate)
        if rate is not None:
            try:
                words = _instead(words, rate)
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                raise PlanInvalid(message, hint=hint, where=Where("RATE")) from error
        curve = parse_rate(words)
        return Traffic(
            locustfile=self._file(node, "locustfile"),
            rate=curve.peak,
            arrivals=node.get("arrivals", _arrivals),
            seed=node.get("seed", _seed),
            mix=self._mix(node.child("mix")),
            timeout_s=node.get("timeout", duration_s),
            behaviour=self._behaviour(node),
            shape="" if curve.is_constant else words,
            workers=node.get("workers", _workers) if "workers" in node.data else 1,
            entry=node.get("entry", _entry) if "entry" in node.data else "origin",
        )

    def _recorded(self, node: Node, rate: str | None, horizon_s: float) -> Traffic:
        """Traffic whose requests and instants are those of a file."""
        for key in ("rate", "arrivals", "mix", *BEHAVIOUR_KEYS):
            if key in node.data:
                message = f"with a recording there is no {key}: what it holds is what is sent"
                fail(message, f"remove {key}, or recording", node.where(key, value=False))
        required = ("locustfile", "recording", "seed", "timeout")
        node.only((*required, "speed", "methods", "workers", "entry"), required)
        if rate is not None:
            raise PlanInvalid(
                "a recording has its own rate",
                hint="change speed: in the plan",
                where=Where("RATE"),
            )
        path = self._file(node, "recording")
        seed = node.get("seed", _seed)
        recording = recording_of(
            Path(path),
            path,
            speed=node.get("speed", speed_of) if "speed" in node.data else 1.0,
            methods=node.get("methods", _methods) if "methods" in node.data else SAFE,
            seed=seed,
            horizon_s=horizon_s,
        )
        return Traffic(
            locustfile=self._file(node, "locustfile"),
            rate=recording.peak,
            arrivals="recorded",
            seed=seed,
            mix={},
            timeout_s=node.get("timeout", duration_s),
            recording=recording,
            workers=node.get("workers", _workers) if "workers" in node.data else 1,
            entry=node.get("entry", _entry) if "entry" in node.data else "origin",
        )

    def _behaviour(self, node: Node) -> Mapping[str, float]:
        """What is said of how users behave, by field of Behaviour, each refused at its place."""
        given: dict[str, float] = {}
        for key, parts in BEHAVIOUR_KEYS.items():
            if key not in node.data:
                continue
            if not isinstance(parts, dict):
                given[key] = node.get(key, _behaves(key, parts))
                continue
            child = node.child(key)
            child.only(parts, ())
            for part, (name, parse) in parts.items():
                if part in child.data:
                    given[name] = child.get(part, _behaves(name, parse))
        return given

    def _mix(self, node: Node) -> Mapping[str, float]:
        node.only(OPERATIONS, ())
        mix = {str(op): node.get(op, _share) for op in node.data}
        if sum(mix.values()) <= 0:
            fail("the shares add up to nothing", "give one operation a share", node.where())
        return mix

    def _faults(self, root: Node) -> tuple[Fault, ...]:
        faults: list[Fault] = []
        keys = ("name", "experiment", "hold", "recovery")
        for node in root.items("faults"):
            node.only((*keys, "at_most", "share"), keys)
            name = node.get("name", _name)
            if name in [fault.name for fault in faults]:
                fail(f"two faults are called {name!r}", "rename one", node.where("name"))
            experiment = self._file(node, "experiment")
            found = read_experiment(Path(experiment), node.where("experiment"))
            check_functions(found, self.functions)
            self.experiments[name] = found
            faults.append(
                Fault(
                    name=name,
                    experiment=experiment,
                    hold_s=node.get("hold", duration_s),
                    recovery_s=node.get("recovery", duration_s),
                    title=found.title,
                    sha256=found.sha256,
                    at_most=node.get("at_most", _cap) if "at_most" in node.data else None,
                    share=node.get("share", _part) if "share" in node.data else None,
                )
            )
        return tuple(faults)

    def _file(self, node: Node, key: str, named: Path | str | None = None) -> str:
        """The file named, from the plan's folder upwards, then from the current folder."""
        named = Path(node.get(key, _text) if named is None else named)
        folders = [*self.path.resolve().parents, Path.cwd()]
        found = next((f / named for f in folders if (f / named).is_file()), None)
        if found is not None:
            return relative(found)
        beside = (folder / named.parent for folder in folders)
        siblings = [p.name for d in beside if d.is_dir() for p in d.iterdir() if p.is_file()]
        close = difflib.get_close_matches(named.name, siblings, n=1)
        hint = f"did you mean {named.parent / close[0]}?" if close else "check the path"
        raise PlanInvalid(f"there is no file {named}", hint=hint, where=node.where(key))

    def _objectives(self, node: Node, plan: Plan) -> Iterator[Objective]:
        """What one entry says: one objective, or those of k6's thresholds or of an SLO file."""
        thresholds = [str(key) for key in node.data if is_threshold(key)]
        if thresholds:
            yield from self._thresholds(node, plan, thresholds[0])
        elif "slo" in node.data and not set(node.data) & set(WORDINGS):
            node.only(("slo", "in"), ())
            phases = self._names(node, "in", [p.name for p in plan.phases], "phase")
            slos = self._slo_file(node)
            line = node.data.lc.line + 1
            for slo in slos:
                self._known(slo.operations, plan, node.where("slo"))
                yield objective_of(slo, phases=phases, line=line, operations=slo.operations)
        else:
            yield self._objective(node, plan)

    def _objective(self, node: Node, plan: Plan) -> Objective:
        kinds = [key for key in node.data if key in WORDINGS]
        if len(kinds) > 1:
            fail("one entry holds two objectives", "start a new '- '", node.where(kinds[1]))
        scope = WORDINGS[kinds[0]].scope if kinds else "in"
        extra = WORDINGS[kinds[0]].extra if kinds else ()
        for key in node.data:
            if kinds and key in _SCOPE_KEYS and key not in (scope, *extra):
                takes = [f"{key}:" for key in (scope, *extra) if key]
                hint = f"{kinds[0]} takes {', '.join(takes)}"
                fail(f"{kinds[0]} has no {key}:", hint, node.where(key, value=False))
        node.only((*WORDINGS, *_SCOPE_KEYS), ())
        if not kinds:
            fail("the entry names no objective", "one of " + ", ".join(WORDINGS), node.where())
        kind = kinds[0]
        given: dict[str, Any] = {"line": node.data.lc.line + 1}
        wording = node.data[kind]
        given["text"] = f"{kind}: {wording}"
        if scope == "in":
            given["phases"] = self._names(node, "in", [p.name for p in plan.phases], "phase")
        elif scope == "of":
            given["faults"] = self._names(node, "of", [f.name for f in plan.faults], "fault")
        if "rpo" in node.data:
            given["rpo_s"] = node.get("rpo", duration_s)
        if "incidents" in extra:
            given |= self._past(node)
            days = f", incidents of {given['over_s'] / 86_400:g}d" if "over_s" in given else ""
            given["text"] += days
        if "slo" in extra:
            given["slo"] = self._slo(node, period="period" in extra)
            given["operations"] = given["slo"].operations
            self._known(given["operations"], plan, node.where("slo"))
        if "for" in node.data:
            given["operations"] = self._operations(node, plan, given.get("operations", ()))
        if given.get("operations"):
            given["text"] += f" for {', '.join(given['operations'])}"
        if "degraded" in node.data:
            given["degraded"] = node.get("degraded", _counts)
            given["text"] += ", degraded answers counted"
        if "breaker" in node.data:
            given["breaker"] = node.get("breaker", _text)
        objective = node.get(kind, lambda value: parse_objective(kind, value, **given))
        self._can_be_seen(objective, plan, node, kind)
        return objective

    def _past(self, node: Node) -> dict[str, Any]:
        """``incidents:`` and ``over:``, both or neither."""
        keys = [key for key in ("incidents", "over") if key in node.data]
        if not keys:
            return {}
        if len(keys) == 1:
            hint = "write incidents: a PromQL expression, and over: 30d or more; or neither"
            fail("incidents: and over: belong together", hint, node.where(keys[0]))
        over_s = node.get("over", duration_s)
        if over_s < INCIDENTS_OVER_MIN_S:
            hint = "write over: 30d, or more"
            fail("less than 30 days say nothing of incidents", hint, node.where("over"))
        return {"incidents": node.get("incidents", _text), "over_s": over_s}

    def _thresholds(self, node: Node, plan: Plan, key: str) -> Iterator[Objective]:
        """``METRIC: EXPRESSION``, or a list of them, as in a script of k6."""
        node.only((key, "in", "for"), ())
        named = node.get(key, lambda _: operation_of(key))
        operations: tuple[str, ...] = (named,) if named is not None else ()
        self._known(operations, plan, node.where(key, value=False))
        if "for" in node.data:
            operations = self._operations(node, plan, operations)
        where: dict[str, Any] = {
            "phases": self._names(node, "in", [p.name for p in plan.phases], "phase"),
            "line": node.data.lc.line + 1,
            "operations": operations,
        }
        given = node.data[key]
        for expression in given if isinstance(given, CommentedSeq) else [given]:
            yield node.get(key, lambda _, said=expression: parse_threshold(key, said, **where))  # type: ignore[misc]

    def _slo(self, node: Node, *, period: bool) -> Slo:
        """``slo:`` of an objective: words, or a file with one SLO or FILE#NAME of several."""
        if "slo" not in node.data:
            hint = "add a line slo: 99.9 %, or slo: FILE.yaml"
            fail("'slo' is missing", hint, node.where())
        if not _is_file(node.data["slo"]):
            slo = node.get("slo", parse_slo)
        else:
            found = self._slo_file(node)
            if len(found) > 1:
                names = ", ".join(slo.name for slo in found)
                fail(f"the file has {len(found)} SLOs", f"write FILE#NAME: {names}",
                     node.where("slo"))  # fmt: skip
            slo = found[0]
        if not period:
            return slo
        if "period" in node.data:
            if slo.period_s is not None and slo.source:
                fail("the file says its period itself", "remove period", node.where("period"))
            return replace(slo, period_s=node.get("period", duration_s))
        if slo.period_s is None:
            fail("'period' is missing", "add a line period: 30d", node.where())
        return slo

    def _slo_file(self, node: Node) -> tuple[Slo, ...]:
        """The SLOs of the file named, or the one named after ``#``."""
        named, _, name = node.get("slo", _text).partition("#")
        found = read_slos(Path(self._file(node, "slo", named)))
        chosen = tuple(slo for slo in found if slo.name == name) if name else found
        if not chosen:
            names = (slo.name for slo in found)
            fail(f"there is no SLO {name!r} in {named}", nearest(name, names), node.where("slo"))
        return chosen

    def _operations(self, node: Node, plan: Plan, said: tuple[str, ...]) -> tuple[str, ...]:
        """``for:``, unless what it belongs to names its operations itself."""
        if said:
            hint = f"remove for: it is of {', '.join(said)}"
            fail("the operations are said twice", hint, node.where("for", value=False))
        if plan.traffic.recording is not None:
            given = node.data["for"]
            names = list(given) if isinstance(given, CommentedSeq) else [given]
            return tuple(_text(name) for name in names)
        found = self._names(node, "for", list(_sent(plan)), "operation sent")
        return () if len(found) == len(_sent(plan)) else found

    def _known(self, operations: tuple[str, ...], plan: Plan, where: Where) -> None:
        """Operations that are never sent could not be judged."""
        for name in operations:
            if plan.traffic.recording is None and name not in _sent(plan):
                fail(f"there is no operation sent {name!r}", nearest(name, _sent(plan)), where)

    def _names(self, node: Node, key: str, known: list[str], what: str) -> tuple[str, ...]:
        """Names in ``in:`` or ``of:``; ``all``, or nothing at all, means every one."""
        given = node.data.get(key, "all")
        names = list(given) if isinstance(given, CommentedSeq) else [given]
        if names == ["all"]:
            return tuple(known)
        for index, name in enumerate(names):
            if name not in known:
                where = node.where(key)
                if isinstance(given, CommentedSeq):
                    line, column = given.lc.data[index]
                    where = Where(self.file, line + 1, column + 1, f"{node.key}.{key}[{index}]")
                fail(f"there is no {what} {name!r}", nearest(name, (*known, "all")), where)
        if not names or len(set(names)) < len(names):
            fail(f"{key}: must name each {what} once", "remove the others", node.where(key))
        return tuple(names)

    def _can_be_seen(self, objective: Objective, plan: Plan, node: Node, kind: str) -> None:
        """What could never be missed is refused: a bound longer than the time watched, a loss of
        uploads nobody keeps count of."""
        if isinstance(objective, Durability) and plan.traffic.recording is not None:
            fail(
                "what a recording uploads is not kept count of, so nothing can be said of its loss",
                "remove the objective, or replay no recording",
                node.where(kind),
            )
        if isinstance(objective, Degradation):
            self._known(objective.operations, plan, node.where(kind))
        if isinstance(objective, Scaling):
            _surge_can_be_seen(objective, plan, node.where(kind))
        if not isinstance(objective, _BOUNDED):
            return
        for name in objective.faults:
            fault = plan.fault(name)
            for within_s, watched_s in _bounds(objective, fault):
                if within_s <= watched_s:
                    continue
                fail(
                    f"{within_s:g}s is longer than the {watched_s:g}s in which "
                    f"{objective.kind} of {name!r} is watched",
                    "shorten the bound, or lengthen hold: or recovery: of the fault",
                    node.where(kind),
                )


_Bounded: TypeAlias = (
    Recovery | Failover | Failback | Alert | Canary | BlueGreen | RollingUpdate | Degradation
)
_BOUNDED = (Recovery, Failover, Failback, Alert, Canary, BlueGreen, RollingUpdate, Degradation)


def _surge_can_be_seen(objective: Scaling, plan: Plan, where: Where) -> None:
    """A surge that there is, which lasts and is followed by enough for both bounds."""
    curve = plan.traffic.curve
    surge_s = curve.surge_s if isinstance(curve, Curve) else None
    if surge_s is None:
        fail(
            "the traffic has no surge that autoscaling could be judged by",
            "write rate: spike 100/s to 400/s at 30s for 60s, say",
            where,
        )
    start_s, end_s = surge_s
    for within_s, watched_s, what, hint in (
        (objective.out_within_s, end_s - start_s, "that the surge lasts", "the surge"),
        (objective.in_within_s, plan.duration_s - end_s, "that are left after the surge",
         "baseline: or cool_down:"),
    ):  # fmt: skip
        if within_s > watched_s:
            message = f"{within_s:g}s is longer than the {max(0.0, watched_s):g}s {what}"
            fail(message, f"shorten the bound, or lengthen {hint}", where)


def _sent(plan: Plan) -> tuple[str, ...]:
    """The operations of which the traffic has a share."""
    return tuple(op for op, share in plan.traffic.mix.items() if share > 0)


def _bounds(objective: _Bounded, fault: Fault) -> Iterator[tuple[float, float]]:
    """Each bound of an objective of ``fault``, and how long its clock is watched (s)."""
    both_s = fault.hold_s + fault.recovery_s
    if isinstance(objective, Alert):
        yield objective.fires_within_s, both_s
        if objective.resolves_within_s is not None:
            yield objective.resolves_within_s, fault.recovery_s
    elif isinstance(objective, Degradation):
        yield objective.within_s, fault.hold_s
        yield objective.whole_within_s, fault.recovery_s
    elif isinstance(objective, Recovery):
        yield objective.within_s, both_s
    elif isinstance(objective, Failback):
        yield objective.within_s, fault.recovery_s
    else:
        yield objective.within_s, fault.hold_s


def _is_file(value: object) -> bool:
    """Whether an ``slo:`` names a file rather than being said in words."""
    return isinstance(value, str) and re.search(r"\.(ya?ml|json)(#|$)", value.strip()) is not None


def _behaves(name: str, parse: Callable[[object], float]) -> Callable[[object], float]:
    """``parse``, then what Behaviour itself says of the value."""

    def checked(value: object) -> float:
        found = parse(value)
        Behaviour().changed({name: found})
        return found

    return checked


def _account(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\d{12}", value):
        raise ValueError(f"{value!r} is no AWS account; write 12 digits in quotes")
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, CommentedSeq) or not value:
        raise ValueError(f"{value!r} is no list of names; write [NAME, NAME]")
    return tuple(_name(name) for name in value)


def _functions(root: Node) -> Iterator[str]:
    """Functions beside ours that experiments of this plan may call, as ``module.name``."""
    given = root.data.get("functions", [])
    if not isinstance(given, CommentedSeq) and given != []:
        fail("functions must be a list", "write [my.probes.is_empty]", root.where("functions"))
    for name in given:
        module, _, function = str(name).rpartition(".")
        if not module or parameters_of(module, function) is None:
            hint = "write MODULE.NAME; is it on PYTHONPATH?"
            fail(f"there is no function {name}", hint, root.where("functions"))
        yield str(name)


def _version(value: object) -> int:
    if value != 1 or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a version this harness reads; write version: 1")
    return 1


def _counts(value: object) -> bool:
    if value != "counts":
        raise ValueError(
            f"{value!r} is not how it is said; write degraded: counts, or leave it out"
        )
    return True


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is not text; write some words")
    return value.strip()


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value == "all":
        raise ValueError(f"{value!r} is not a name; write small letters, digits and dashes")
    return value


def _url(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^/\s]+(/\S*)?", value):
        raise ValueError(f"{value!r} is not a URL; write one such as https://files.example.com")
    return value


def _rate(value: object) -> str:
    """The words of a rate, checked."""
    if isinstance(value, (Mapping, list)):
        raise ValueError("a rate is written in words; write ramp 50/s to 500/s over 2m, say")
    parse_rate(value)
    return " ".join(str(value).split())


def _instead(words: str, rate: str) -> str:
    """The words of the plan's rate when the command line says ``rate``."""
    peak = parse_rate(rate).peak
    shaped = not is_shape(rate) and is_shape(words)
    return scaled_to(words, peak) if shaped else " ".join(rate.split())


def _methods(value: object) -> tuple[str, ...]:
    given = tuple(value) if isinstance(value, list) else (value,)
    unknown = [method for method in given if method not in METHODS]
    if unknown or not given:
        known = ", ".join(METHODS)
        raise ValueError(f"{(unknown or [value])[0]!r} is not a method to replay; one of {known}")
    return tuple(dict.fromkeys(map(str, given)))


def _arrivals(value: object) -> Any:
    if value not in ("poisson", "even"):
        raise ValueError(f"{value!r} are not arrivals; write poisson or even")
    return value


def _entry(value: object) -> Any:
    if value not in ("origin", "edge"):
        raise ValueError(f"{value!r} is no place to enter at; write origin or edge")
    return value


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a seed; write a whole number such as 7")
    return int(value)


def _workers(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_WORKERS:
        raise ValueError(f"{value!r} is not a number of workers; write auto, or 1 to {MAX_WORKERS}")
    return int(value)


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number; write one such as 10")
    return float(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number; write one such as 3")
    return int(value)


def _cap(value: object) -> int:
    found = _count(value)
    if found < 1:
        raise ValueError(f"{value!r} allows no target; write 1 or more")
    return found


def _part(value: object) -> float:
    found = fraction(value)
    if found <= 0:
        raise ValueError(f"{value!r} allows no target; write 50 %, say")
    return found


def _share(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise ValueError(f"{value!r} is not a share; write a number such as 12")
    return float(value)


#: Keys of ``traffic`` that say how users behave: the parser, or part → (field, its parser).
BEHAVIOUR_KEYS: dict[str, Any] = {
    "sessions": {"steps": ("steps", _number), "think": ("think_s", duration_s)},
    "hot": {"share": ("hot_share", fraction), "objects": ("hot_objects", _count)},
    "verify": fraction,
    "resumed": {"share": ("resumed", fraction), "interrupted": ("interrupted", fraction)},
}
