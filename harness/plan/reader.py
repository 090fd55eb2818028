"""Reads a plan and refuses what it does not understand, naming the place.

Nothing is guessed: an unknown key, a number without unit, a phase that does not exist
or an experiment that is not there is :class:`PlanInvalid` with file, line, column and a
suggestion, before anything is touched. YAML is read in round-trip mode: a duplicate key is
an error, and ``no`` or ``1:30`` stay the text they look like.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.errors import PlanInvalid, Where
from harness.plan.behaviour import Behaviour
from harness.plan.logfile import METHODS, SAFE, recording_of
from harness.plan.model import (
    BlueGreen,
    Canary,
    Durability,
    Failback,
    Failover,
    Fault,
    Objective,
    Plan,
    Recovery,
    RollingUpdate,
    TargetNames,
    Traffic,
)
from harness.plan.objectives import WORDINGS, parse_objective
from harness.plan.quantities import duration_s, fraction, speed_of
from harness.plan.shapes import is_shape, parse_rate, scaled_to

OPERATIONS = ("download", "upload", "image", "list", "delete")
MAX_WORKERS = 512
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SCOPE_KEYS = ("in", "of", "rpo")

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


class _Node:
    """A mapping of the document that knows its place and which keys it may have."""

    def __init__(self, reader: _Reader, data: CommentedMap, key: str) -> None:
        self.reader, self.data, self.key = reader, data, key

    def where(self, key: str | None = None, *, value: bool = True) -> Where:
        path = f"{self.key}.{key}" if self.key and key else (key or self.key)
        place = self.data.lc.data.get(key) if key is not None and self.data.lc.data else None
        if place is None:
            return Where(self.reader.file, self.data.lc.line + 1, self.data.lc.col + 1, path)
        line, column = (place[2], place[3]) if value else (place[0], place[1])
        return Where(self.reader.file, line + 1, column + 1, path)

    def only(self, known: Iterable[str], required: Iterable[str]) -> None:
        known = tuple(known)
        for key in self.data:
            if key not in known:
                fail(f"unknown key {key!r}", _nearest(key, known), self.where(key, value=False))
        for key in required:
            if key not in self.data:
                fail(f"{key!r} is missing", f"add a line {key}: …", self.where(None))

    def get(self, key: str, parse: Callable[[object], T]) -> T:
        try:
            return parse(self.data[key])
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            fail(message, hint or "see experiments/gamedays/lab.yaml", self.where(key))

    def child(self, key: str) -> _Node:
        data = self.data[key]
        if not isinstance(data, CommentedMap):
            fail(f"{key!r} must have keys of its own", "indent them below it", self.where(key))
        return _Node(self.reader, data, f"{self.key}.{key}" if self.key else key)

    def items(self, key: str) -> list[_Node]:
        data = self.data[key]
        path = f"{self.key}.{key}" if self.key else key
        if not isinstance(data, CommentedSeq):
            fail(f"{key!r} must be a list", "start each entry with '- '", self.where(key))
        for index, item in enumerate(data):
            if not isinstance(item, CommentedMap):
                line, column = data.lc.data[index]
                place = Where(self.reader.file, line + 1, column + 1, f"{path}[{index}]")
                fail("an entry must have keys", "write - key: value", place)
        return [_Node(self.reader, item, f"{path}[{i}]") for i, item in enumerate(data)]


class _Reader:
    def __init__(self, text: str, path: Path) -> None:
        self.text, self.path = text, path
        self.file = relative(path)

    def plan(self, rate: str | None) -> Plan:
        root = self._load()
        root.only(
            ("version", "name", "description", "target", "traffic", "baseline", "faults",
             "cool_down", "objectives"),
            ("version", "name", "target", "traffic", "baseline", "objectives"),
        )  # fmt: skip
        version = root.get("version", _version)
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
        objectives = tuple(self._objective(node, draft) for node in root.items("objectives"))
        if not objectives:
            fail("a plan without objectives decides nothing", "add one", root.where("objectives"))
        return Plan(**{**draft.__dict__, "objectives": objectives})

    def _load(self) -> _Node:
        yaml = YAML(typ="rt")
        try:
            data = yaml.load(self.text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = Where(self.file, mark.line + 1, mark.column + 1) if mark else Where(self.file)
            problem = str(error.problem or error.context or "not YAML").splitlines()[0]
            hint = (
                "keep one of the two lines"
                if "duplicate" in problem
                else "check indentation, quotes and colons near this place"
            )
            raise PlanInvalid(problem, hint=hint, where=where) from error
        except YAMLError as error:
            where = Where(self.file)
            raise PlanInvalid(f"not YAML: {error}", hint="save it as UTF-8", where=where) from error
        if not isinstance(data, CommentedMap):
            fail("a plan is a mapping of keys", "start with version: 1", Where(self.file, 1, 1))
        return _Node(self, data, "")

    def _target(self, node: _Node) -> TargetNames:
        keys = ("service", "primary", "standby")
        node.only(keys, keys)
        target = TargetNames(
            service=node.get("service", _url),
            primary=node.get("primary", _name),
            standby=node.get("standby", _name),
        )
        if target.primary == target.standby:
            fail("primary and standby are the same region", "name two", node.where("standby"))
        return target

    def _traffic(self, node: _Node, rate: str | None, horizon_s: float) -> Traffic:
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

    def _recorded(self, node: _Node, rate: str | None, horizon_s: float) -> Traffic:
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

    def _behaviour(self, node: _Node) -> Mapping[str, float]:
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

    def _mix(self, node: _Node) -> Mapping[str, float]:
        node.only(OPERATIONS, ())
        mix = {str(op): node.get(op, _share) for op in node.data}
        if sum(mix.values()) <= 0:
            fail("the shares add up to nothing", "give one operation a share", node.where())
        return mix

    def _faults(self, root: _Node) -> tuple[Fault, ...]:
        faults: list[Fault] = []
        keys = ("name", "experiment", "hold", "recovery")
        for node in root.items("faults"):
            node.only(keys, keys)
            name = node.get("name", _name)
            if name in [fault.name for fault in faults]:
                fail(f"two faults are called {name!r}", "rename one", node.where("name"))
            experiment = self._file(node, "experiment")
            title, sha256 = self._experiment(Path(experiment), node)
            faults.append(
                Fault(
                    name=name,
                    experiment=experiment,
                    hold_s=node.get("hold", duration_s),
                    recovery_s=node.get("recovery", duration_s),
                    title=title,
                    sha256=sha256,
                )
            )
        return tuple(faults)

    def _file(self, node: _Node, key: str) -> str:
        """The file named, from the plan's folder upwards, then from the current folder."""
        named = Path(node.get(key, _text))
        folders = [*self.path.resolve().parents, Path.cwd()]
        found = next((f / named for f in folders if (f / named).is_file()), None)
        if found is not None:
            return relative(found)
        beside = (folder / named.parent for folder in folders)
        siblings = [p.name for d in beside if d.is_dir() for p in d.iterdir() if p.is_file()]
        close = difflib.get_close_matches(named.name, siblings, n=1)
        hint = f"did you mean {named.parent / close[0]}?" if close else "check the path"
        raise PlanInvalid(f"there is no file {named}", hint=hint, where=node.where(key))

    def _experiment(self, path: Path, node: _Node) -> tuple[str, str]:
        """Title and SHA-256 of a Chaos Toolkit file; only its form is checked here."""
        raw = path.read_bytes()
        where = node.where("experiment")
        try:
            if path.suffix in (".yaml", ".yml"):
                document = YAML(typ="safe", pure=True).load(raw)
            else:
                document = json.loads(raw)
        except json.JSONDecodeError as error:
            place = Where(relative(path), error.lineno, error.colno)
            raise PlanInvalid(f"not JSON: {error.msg}", hint="fix it", where=place) from error
        except (YAMLError, UnicodeDecodeError) as error:
            raise PlanInvalid(f"{path} is not readable: {error}", where=where) from error
        if not isinstance(document, Mapping) or "method" not in document:
            fail(f"{path} is no experiment: it has no method", "chaos validate FILE", where)
        return str(document.get("title", "")), hashlib.sha256(raw).hexdigest()

    def _objective(self, node: _Node, plan: Plan) -> Objective:
        kinds = [key for key in node.data if key in WORDINGS]
        if len(kinds) > 1:
            fail("one entry holds two objectives", "start a new '- '", node.where(kinds[1]))
        scope = WORDINGS[kinds[0]].scope if kinds else "in"
        extra = ("rpo",) if kinds == ["durability"] else ()
        for key in node.data:
            if kinds and key in _SCOPE_KEYS and key not in (scope, *extra):
                hint = f"{kinds[0]} takes {scope}:"
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
        else:
            given["faults"] = self._names(node, "of", [f.name for f in plan.faults], "fault")
        if "rpo" in node.data:
            given["rpo_s"] = node.get("rpo", duration_s)
        objective = node.get(kind, lambda value: parse_objective(kind, value, **given))
        self._can_be_seen(objective, plan, node, kind)
        return objective

    def _names(self, node: _Node, key: str, known: list[str], what: str) -> tuple[str, ...]:
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
                fail(f"there is no {what} {name!r}", _nearest(name, (*known, "all")), where)
        if not names or len(set(names)) < len(names):
            fail(f"{key}: must name each {what} once", "remove the others", node.where(key))
        return tuple(names)

    def _can_be_seen(self, objective: Objective, plan: Plan, node: _Node, kind: str) -> None:
        """What could never be missed is refused: a bound longer than the time watched, a loss of
        uploads nobody keeps count of."""
        if isinstance(objective, Durability) and plan.traffic.recording is not None:
            fail(
                "what a recording uploads is not kept count of, so nothing can be said of its loss",
                "remove the objective, or replay no recording",
                node.where(kind),
            )
        deliveries = (Canary, BlueGreen, RollingUpdate)
        if not isinstance(objective, (Recovery, Failover, Failback, *deliveries)):
            return
        for name in objective.faults:
            fault = plan.fault(name)
            watched_s = {
                "failover": fault.hold_s,
                "failback": fault.recovery_s,
                **{kind.kind: fault.hold_s for kind in deliveries},
            }.get(objective.kind, fault.hold_s + fault.recovery_s)
            if objective.within_s > watched_s:
                fail(
                    f"{objective.within_s:g}s is longer than the {watched_s:g}s in which "
                    f"{objective.kind} of {name!r} is watched",
                    "shorten the bound, or lengthen hold: or recovery: of the fault",
                    node.where(kind),
                )


def relative(path: Path) -> str:
    """``path`` from the current folder when it lies below it, else absolute."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path.resolve())


def fail(message: str, hint: str, where: Where) -> NoReturn:
    """Raise PlanInvalid."""
    raise PlanInvalid(message, hint=hint, where=where)


def _nearest(name: object, known: Iterable[str]) -> str:
    known = tuple(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "one of " + ", ".join(known)


def _behaves(name: str, parse: Callable[[object], float]) -> Callable[[object], float]:
    """``parse``, then what Behaviour itself says of the value."""

    def checked(value: object) -> float:
        found = parse(value)
        Behaviour().changed({name: found})
        return found

    return checked


def _version(value: object) -> int:
    if value != 1 or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a version this harness reads; write version: 1")
    return 1


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
