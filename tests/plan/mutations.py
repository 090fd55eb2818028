"""Plans and experiments of this repository, each with one mistake; nothing of them may run.

Mistakes are made everywhere they fit (every key, every argument), so their number grows with
the experiments.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(REPO.glob("experiments/*/*.json"))
GAME_DAYS = sorted(REPO.glob("experiments/gamedays/*.yaml"))

Document = dict[str, Any]
#: What is changed → the document with it, for each place it fits.
Mutation = Callable[[Document], Iterator[tuple[str, Document]]]


@dataclass(frozen=True)
class Mutant:
    """A file with one mistake. ``at``: text of the line that must be named; empty: any line."""

    name: str
    file: Path
    text: str
    at: str = ""


def experiments() -> Iterator[Mutant]:
    """Every mutation of every experiment."""
    for file in EXPERIMENTS:
        document = json.loads(file.read_text())
        for mutation in _MUTATIONS:
            for n, (at, changed) in enumerate(mutation(document)):
                text = json.dumps(changed, indent=2, ensure_ascii=False) + "\n"
                name = f"{file.stem}: {mutation.__name__.strip('_')} {n}"
                yield Mutant(name, file, text, at)


def plans() -> Iterator[Mutant]:
    """Every mutation of every game day."""
    for file in GAME_DAYS:
        text = file.read_text()
        for n, (old, new, at) in enumerate(_in_plan(text)):
            if old in text:
                changed = text.replace(old, new, 1)
                yield Mutant(f"{file.stem}: {n} {new.strip()!r}", file, changed, at)


# ── experiments ────────────────────────────────────────────────────────────────────────


def _nodes(document: Document) -> Iterator[tuple[tuple[Any, ...], Document]]:
    """Every mapping whose keys mean something, with the way to it."""

    def walk(way: tuple[Any, ...], node: Any) -> Iterator[tuple[tuple[Any, ...], Document]]:
        if isinstance(node, dict):
            yield way, node
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, dict | list):
                yield from walk((*way, key), value)

    yield from walk((), document)


def _changed(document: Document, way: tuple[Any, ...], change: Callable[[Any], None]) -> Document:
    changed = copy.deepcopy(document)
    node = changed
    for step in way:
        node = node[step]
    change(node)
    return changed


def _activities(document: Document) -> Iterator[tuple[tuple[Any, ...], Document]]:
    for way, node in _nodes(document):
        if "provider" in node and "type" in node:
            yield way, node


def _with_arguments(document: Document) -> Iterator[tuple[tuple[Any, ...], Document]]:
    for way, node in _activities(document):
        for key, value in node["provider"].get("arguments", {}).items():
            yield (*way, "provider", "arguments"), {"key": key, "value": value}


def _misspelt_key(document: Document) -> Iterator[tuple[str, Document]]:
    for way, node in _nodes(document):
        if way and way[0] in ("configuration", "secrets") and len(way) < 2:
            continue  # names that are the user's own
        if way and way[0] == "secrets":
            continue
        for key in node:
            typo = key[:1] + key[2:] if len(key) > 3 else key + "x"

            def change(found: Any, key: str = key, typo: str = typo) -> None:
                items = [(typo if k == key else k, v) for k, v in found.items()]
                found.clear()
                found.update(items)

            yield "" if key in ("type", "tags") else f'"{typo}"', _changed(document, way, change)


def _set(key: str, value: Any) -> Callable[[Any], None]:
    return lambda node: node.__setitem__(key, value)


def _number_with_unit(document: Document) -> Iterator[tuple[str, Document]]:
    for way, given in _with_arguments(document):
        if isinstance(given["value"], (int, float)) and not isinstance(given["value"], bool):
            text = f"{given['value']}s"
            yield f'"{text}"', _changed(document, way, _set(given["key"], text))


def _negative_number(document: Document) -> Iterator[tuple[str, Document]]:
    for way, given in _with_arguments(document):
        if isinstance(given["value"], (int, float)) and not isinstance(given["value"], bool):
            yield f'"{given["key"]}": -1', _changed(document, way, _set(given["key"], -1))


def _empty_selector(document: Document) -> Iterator[tuple[str, Document]]:
    for way, given in _with_arguments(document):
        if isinstance(given["value"], str):
            for empty in ("", "  "):
                changed = _changed(document, way, _set(given["key"], empty))
                yield f'"{given["key"]}": "{empty}"', changed


def _pattern_for_a_name(document: Document) -> Iterator[tuple[str, Document]]:
    for way, given in _with_arguments(document):
        if given["key"] in ("app", "cluster", "zone", "region", "rollout", "deployment"):
            yield '".*"', _changed(document, way, _set(given["key"], ".*"))


def _argument_left_out(document: Document) -> Iterator[tuple[str, Document]]:
    for way, given in _with_arguments(document):
        if given["key"] in ("app", "cluster", "zone", "region", "image", "name"):
            key = given["key"]
            yield "", _changed(document, way, lambda node, key=key: node.pop(key))


def _unknown_substitution(document: Document) -> Iterator[tuple[str, Document]]:
    for way, given in _with_arguments(document):
        yield "${nothing}", _changed(document, way, _set(given["key"], "${nothing}"))


def _pause_with_unit(document: Document) -> Iterator[tuple[str, Document]]:
    for way, node in _activities(document):
        if "pauses" in node:
            yield '"25s"', _changed(document, (*way, "pauses"), _set("after", "25s"))


def _another_provider(document: Document) -> Iterator[tuple[str, Document]]:
    for way, _ in _activities(document):
        process = {"type": "process", "path": "sh", "arguments": "-c 'rm -rf /'"}
        request = {"type": "http", "url": "http://169.254.169.254/latest/meta-data"}
        yield '"process"', _changed(document, way, _set("provider", process))
        yield '"http"', _changed(document, way, _set("provider", request))


def _another_function(document: Document) -> Iterator[tuple[str, Document]]:
    for way, node in _activities(document):
        at = (*way, "provider")
        for module, func in (("os", "system"), ("chaosk8s.pod.actions", "delete_pods")):
            wanted = {"module": module, "func": func, "arguments": {}}
            yield f'"{module}"', _changed(document, at, lambda n, w=wanted: n.update(w))
        typo = node["provider"]["func"] + "x"
        yield f'"{typo}"', _changed(document, at, _set("func", typo))


def _another_control(document: Document) -> Iterator[tuple[str, Document]]:
    provider = {"type": "python", "module": "chaosaddons.controls.bypass"}
    yield (
        '"chaosaddons.controls.bypass"',
        _changed(document, ("controls", 0), _set("provider", provider)),
    )
    remote = {"type": "http", "url": "http://169.254.169.254/"}
    yield '"url"', _changed(document, ("controls", 0), _set("provider", remote))
    yield "", _changed(document, (), lambda node: node.pop("controls"))


def _probe_elsewhere(document: Document) -> Iterator[tuple[str, Document]]:
    probe = {"type": "probe", "name": "p", "provider": {"type": "process", "path": "id"}}
    yield '"probe"', _changed(document, ("configuration",), _set("hold_s", probe))
    for way, node in _activities(document):
        if "tolerance" in node:
            yield '"probe"', _changed(document, way, _set("tolerance", probe))


def _probe_without_tolerance(document: Document) -> Iterator[tuple[str, Document]]:
    for way, node in _activities(document):
        if "tolerance" in node:
            yield "", _changed(document, way, lambda found: found.pop("tolerance"))


def _nothing_is_broken(document: Document) -> Iterator[tuple[str, Document]]:
    yield '"method"', _changed(document, (), _set("method", []))


def _another_strategy(document: Document) -> Iterator[tuple[str, Document]]:
    for key in document["runtime"]:
        yield '"sometimes"', _changed(document, ("runtime", key), _set("strategy", "sometimes"))


def _unknown_secret(document: Document) -> Iterator[tuple[str, Document]]:
    for way, node in _activities(document):
        if "secrets" in node["provider"]:
            at = (*way, "provider")
            yield "", _changed(document, at, _set("secrets", ["nowhere"]))
            yield "", _changed(document, at, lambda found: found.pop("secrets"))


_MUTATIONS: tuple[Mutation, ...] = (
    _misspelt_key,
    _number_with_unit,
    _negative_number,
    _empty_selector,
    _pattern_for_a_name,
    _argument_left_out,
    _unknown_substitution,
    _pause_with_unit,
    _another_provider,
    _another_function,
    _another_control,
    _probe_elsewhere,
    _probe_without_tolerance,
    _nothing_is_broken,
    _another_strategy,
    _unknown_secret,
)


# ── plans ──────────────────────────────────────────────────────────────────────────────


def _in_plan(text: str) -> Iterator[tuple[str, str, str]]:
    """What stands there, what is written instead, and text of the line to be named."""
    for key in re.findall(r"^(\w+):", text, re.MULTILINE):
        typo = key[:1] + key[2:] if len(key) > 3 else key + "x"
        yield f"\n{key}:", f"\n{typo}:", f"{typo}:"
    for key in ("service", "primary", "standby", "locustfile", "arrivals", "timeout", "rate"):
        yield f"  {key}: ", f"  {key}x: ", f"{key}x:"
    for key, unit in re.findall(r"(baseline|cool_down|hold|recovery): \d+(s|m)\b", text):
        (value,) = re.findall(rf"{key}: (\d+{unit})\b", text)[:1]
        for wrong in (value[:-1], f"{value[:-1]} seconds", f"{value}ec"):
            yield f"{key}: {value}", f"{key}: {wrong}", f"{key}: {wrong}"
    for rate in re.findall(r"  rate: \d+/s", text):
        yield rate, rate.removesuffix("/s"), rate.removesuffix("/s")
    yield "experiments/", "experimens/", "experimens/"
    yield "in: [baseline", "in: [baselin", "baselin"
    for wrong in ("99.9", "0.999", "999 %", "99.9 percent"):
        if "availability: at least 99.9 %" in text:
            yield "at least 99.9 %", f"at least {wrong}", f"at least {wrong}"
    for wrong in ("12345", '"12345"', "123456789012"):
        yield "  standby: ", f"  account: {wrong}\n  standby: ", "account:"
    for wrong in (
        "{promql: up, above: 1}",
        "{prometheus: up}",
        "{prometheus: up, above: 60%%}",
        "{file: STOP}",
        "{file: /a, no_data: 5}",
        "{alarm: ''}",
        "{probe: x}",
    ):
        yield "\nbaseline:", f"\nstop_when: [{wrong}]\nbaseline:", "stop_when:"
    for wrong in ("[os.system.x]", "[nowhere]", "harness"):
        yield "\nbaseline:", f"\nfunctions: {wrong}\nbaseline:", "functions:"
