"""Cases as users write them: what is changed in the world, and what must be said of it.

A file is a list of entries; :data:`HEALTHY` and :data:`DEFECTS` are examples. Nothing is
guessed: what is not understood is PlanInvalid with file, line, key and a hint.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from harness.errors import ExitStatus, PlanInvalid, Where
from harness.plan.model import Plan
from harness.plan.nodes import load_yaml, nearest
from harness.plan.reader import read_plan
from harness.selftest.alerting import alerts_of
from harness.selftest.world import Alert, Chaos, World

FOLDER = Path(__file__).parent
DEFECTS = FOLDER / "defects.yaml"
HEALTHY = FOLDER / "healthy.yaml"
#: What is simulated, by the word after ``day:``; the first where there is none.
DAYS = {
    "losses": Path("experiments/gamedays/selftest.yaml"),
    "deliveries": Path("experiments/gamedays/selftest-delivery.yaml"),
    "alerts": Path("experiments/gamedays/selftest-alerts.yaml"),
    "scaling": Path("experiments/gamedays/selftest-scaling.yaml"),
    "degradation": Path("experiments/gamedays/selftest-degradation.yaml"),
    "history": Path("experiments/gamedays/selftest-history.yaml"),
}
#: What a defect may be in.
AREAS = ("service", "platform", "chaos", "monitoring", "generator", "clock", "harness")
_KEYS = ("name", "what", "in", "day", "finds", "phase", "says", "exit")
#: Fields of a world that are written with a name: how each begins.
_BY_NAME: dict[str, Any] = {"chaos": Chaos(), "alerts": Alert()}
#: Statuses a verdict can have.
_STATUSES = (
    ExitStatus.PASS,
    ExitStatus.OBJECTIVE_FAILED,
    ExitStatus.STOPPED,
    ExitStatus.UNKNOWN,
    ExitStatus.UNDO_INCOMPLETE,
)


@dataclass(frozen=True)
class Case:
    """``world`` and ``plan`` of one day, and what must be found: a finding whose objective begins
    with ``finds`` (in ``phase``, if that is given) and whose reason holds ``says``, and the exit
    status. Without ``finds`` (a run that was stopped) the summary says it. ``healthy``: pass, and
    where there is ``says``, some finding tells so."""

    name: str
    what: str
    area: str
    world: World
    plan: Plan
    finds: str
    phase: str
    says: str
    exit_status: ExitStatus

    @property
    def healthy(self) -> bool:
        return self.exit_status is ExitStatus.PASS

    @property
    def expected(self) -> str:
        """For people: the finding and the status."""
        return "pass" if self.healthy else f"{self.finds or 'summary'}, {int(self.exit_status)}"


def read_days(files: Mapping[str, Path] = DAYS) -> dict[str, Plan]:
    """The plans that cases are days of. Raises PlanInvalid."""
    return {name: read_plan(path) for name, path in files.items()}


def read_cases(path: Path, days: Mapping[str, Plan]) -> list[Case]:
    """The cases in ``path``; each begins with a healthy day of one of ``days``.

    Raises PlanInvalid when the file cannot be read or any part of it is not understood.
    """
    found: list[Case] = []
    for entry in entries(path):
        case = _case(entry, entry.day(days))
        if case.name in [other.name for other in found]:
            entry.refuse(f"two cases are called {case.name!r}", "rename one", "name")
        found.append(case)
    return found


class Entry:
    """One mapping of a file of cases, which knows its place."""

    def __init__(self, path: Path, data: CommentedMap) -> None:
        self.path, self.data = path, data

    def text(self, key: str) -> str:
        """Text without spaces around it; empty where the key is not there."""
        value = self.data.get(key, "")
        if not isinstance(value, str):
            self.refuse(f"{value!r} is not text", "write some words", key)
        return value.strip()

    def names(self, key: str) -> tuple[str, ...]:
        """A list of names; none where the key is not there."""
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self.refuse(f"{value!r} is no list of names", f"write {key}: [one, another]", key)
        return tuple(str(name) for name in value)

    def day(self, days: Mapping[str, Plan]) -> Plan:
        """The plan after ``day:``; the first where there is no such key."""
        name = self.text("day") or next(iter(days))
        if name not in days:
            self.refuse(f"there is no day {name!r}", nearest(name, days), "day")
        return days[name]

    def refuse(self, message: str, hint: str, key: str = "") -> NoReturn:
        """Raise PlanInvalid for this entry, at the line of ``key`` if it has that."""
        line = self.data.lc.line
        if key and key in (self.data.lc.data or {}):
            line = self.data.lc.key(key)[0]
        raise PlanInvalid(message, hint=hint, where=Where(str(self.path), line + 1, key=key))


def entries(path: Path) -> Iterator[Entry]:
    """The entries of a file. PlanInvalid when it is no list of mappings."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = f"give a file such as {DEFECTS.name}"
        raise PlanInvalid(
            f"it cannot be read: {error}", hint=hint, where=Where(str(path))
        ) from error
    data = next(iter(load_yaml(text, str(path))), None)
    if not isinstance(data, CommentedSeq) or not all(isinstance(e, CommentedMap) for e in data):
        hint = "start each with - name: …"
        raise PlanInvalid("a file of cases is a list of them", hint=hint, where=Where(str(path), 1))
    return (Entry(path, entry) for entry in data)


def _case(entry: Entry, plan: Plan) -> Case:
    case = expectation(entry, plan, ("change",))
    world, plan = _changed(entry, plan)
    return dataclasses.replace(case, world=world, plan=plan)


def expectation(entry: Entry, plan: Plan, more_keys: tuple[str, ...]) -> Case:
    """What must be found, of a healthy day of ``plan``; the entry may have ``more_keys``."""
    for key in entry.data:
        if key not in (*_KEYS, *more_keys):
            entry.refuse(f"unknown key {key!r}", nearest(key, (*_KEYS, *more_keys)), str(key))
    for key in ("name", "what", "in"):
        if not entry.text(key):
            entry.refuse(f"{key!r} is missing", f"add a line {key}: …")
    area, phase, status = entry.text("in"), entry.text("phase"), _status(entry)
    if area not in AREAS:
        entry.refuse(f"{area!r} is no area", nearest(area, AREAS), "in")
    if phase not in ("", "all", *(p.name for p in plan.phases)):
        entry.refuse(f"there is no phase {phase!r}", "as in the plan", "phase")
    tells = entry.text("says") if status is ExitStatus.STOPPED else entry.text("finds")
    if (status is ExitStatus.PASS) == bool(tells):
        hint = "name the objective that must tell it, or leave exit: away for a healthy day"
        entry.refuse("a defect has exit: and finds:, a healthy day neither", hint)
    return Case(
        name=entry.text("name"),
        what=entry.text("what"),
        area=area,
        world=World(),
        plan=plan,
        finds=entry.text("finds"),
        phase=phase,
        says=entry.text("says"),
        exit_status=status,
    )


def _status(entry: Entry) -> ExitStatus:
    value = entry.data.get("exit", 0)
    if value not in [int(status) for status in _STATUSES] or isinstance(value, bool):
        known = ", ".join(str(int(status)) for status in _STATUSES)
        entry.refuse(f"{value!r} is no exit status of a verdict", f"one of {known}", "exit")
    return ExitStatus(value)


# ---- changes -------------------------------------------------------------------------------------


def _changed(entry: Entry, plan: Plan) -> tuple[World, Plan]:
    """A healthy world and the plan with the entry's changes; ``plan.…`` changes the plan."""
    world = World()
    changes = entry.data.get("change", CommentedMap())
    if not isinstance(changes, CommentedMap):
        entry.refuse("the changes are not field: value", "see harness/selftest/world.py", "change")
    where = Entry(entry.path, changes)
    for key, value in changes.items():
        try:
            if str(key).startswith("plan."):
                plan = change(plan, str(key).removeprefix("plan."), value)
            else:
                world = change(world, str(key), value)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            where.refuse(message, hint or "see harness/selftest/world.py", str(key))
        for what, named, known in (
            ("fault", world.chaos, [fault.name for fault in plan.faults]),
            ("alert", world.alerts, [alert.selector.name for alert in alerts_of(plan)]),
        ):
            for name, _ in named:
                if name not in known:
                    where.refuse(f"there is no {what} {name!r}", "as in the plan", str(key))
    return world, plan


def change(value: Any, path: str, to: object) -> Any:
    """A copy of a dataclass with the field at ``path`` (dotted) set to ``to``, as text or YAML.

    Raises ValueError when there is no such field, or it cannot be that.
    """
    name, _, rest = path.partition(".")
    kind: type = type(value)
    hints = _hints(kind)
    if name not in hints:
        raise ValueError(f"there is no {name!r}; {nearest(name, hints)}")
    if rest and name in _BY_NAME:
        whose, _, field = rest.partition(".")
        named = dict(getattr(value, name))
        named[whose] = change(named.get(whose, _BY_NAME[name]), field, to)
        return dataclasses.replace(value, **{name: tuple(named.items())})
    if rest and not dataclasses.is_dataclass(getattr(value, name)):
        raise ValueError(f"{name!r} has no fields of its own")
    new = change(getattr(value, name), rest, to) if rest else _value(hints[name], to, name)
    return dataclasses.replace(value, **{name: new})


def _value(kind: Any, given: object, name: str) -> Any:
    """``given`` as a value of type ``kind``."""
    options = typing.get_args(kind) if typing.get_origin(kind) is types.UnionType else (kind,)
    if given == "never":
        given = None
    if given is None and type(None) in options:
        return None
    for option in options:
        if typing.get_origin(option) is tuple and isinstance(given, (list, tuple)):
            inner = typing.get_args(option)[0]
            return tuple(_value(inner, item, name) for item in given)
        if dataclasses.is_dataclass(option) and isinstance(given, Mapping):
            return _built(option, given)
        if option is float and isinstance(given, (int, float)) and not isinstance(given, bool):
            return float(given)
        # An instance check alone would take yes for 1; a whole number read with its form is one.
        if option is int and isinstance(given, int) and not isinstance(given, bool):
            return int(given)
        if isinstance(option, type) and type(given) is option:
            return given
        if typing.get_origin(option) is typing.Literal and given in typing.get_args(option):
            return given
        if option is str and isinstance(given, str):
            return str(given)
    raise ValueError(f"{given!r} cannot be {name}; it is {_words(options)}")


def _built(kind: Any, given: Mapping[Any, Any]) -> Any:
    hints = _hints(kind)
    fields = {}
    for name, value in given.items():
        if name not in hints:
            raise ValueError(f"there is no {name!r}; {nearest(name, hints)}")
        fields[str(name)] = _value(hints[name], value, str(name))
    return kind(**fields)


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _words(options: Iterable[Any]) -> str:
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    return " or ".join(names.get(o, "never" if o is type(None) else "a list") for o in options)
