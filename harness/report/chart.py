"""The timeline: traffic, errors and latency over the faults, as one SVG.

Drawn here rather than by a script in the page, so that it prints, needs no network and
is the same bytes for the same evidence. Colours are CSS classes: the page decides. A
read-out lies over each stretch of time as the title of an invisible bar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.evidence.model import Evidence, PhaseSpan
from harness.report import words
from harness.report.figures import Bin, bins, regions, span
from harness.report.markup import Safe, tag, text
from harness.report.moments import Moment

WIDTH, _LEFT, _RIGHT = 1080, 58, 16
_PLOT = WIDTH - _LEFT - _RIGHT
_PHASES_Y, _FAULTS_Y, _MARKS_Y, _LANE = 15, 27, 50, 18
_LANES = 4
_GAP = 34
_RADIUS = 8.0


@dataclass(frozen=True)
class _Axis:
    start: float
    end: float

    def x(self, t: float) -> float:
        share = (t - self.start) / (self.end - self.start)
        return _LEFT + _PLOT * min(1.0, max(0.0, share))


@dataclass(frozen=True)
class _Panel:
    """A plot of values from ``low`` to ``high``; ``low`` above zero makes it logarithmic."""

    top: float
    height: float
    high: float
    low: float = 0.0

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def y(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.low > 0:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return self.top + self.height * (1 - share)


def timeline(
    evidence: Evidence,
    marks: Sequence[Moment],
    thresholds_s: Sequence[float],
    order: Sequence[str],
) -> Safe:
    """The SVG; empty when no phase ran. ``order`` is that of the regions, primary first."""
    start, end = span(evidence)
    if end <= start:
        return Safe("")
    found, axis = bins(evidence), _Axis(start, end)
    placed = _place([m for m in marks if m.t is not None], axis)
    lanes = 1 + max((flag.lane for flag in placed), default=-1)
    traffic, errors, latency = _panels(found, thresholds_s, _MARKS_Y + lanes * _LANE + 26)
    bottom = latency.bottom
    names = regions(found, order)
    return tag(
        "svg",
        tag("title", "Traffic, errors and latency over the phases of the run"),
        tag("desc", _description(evidence, names, start, end)),
        _bands(evidence.phases, axis, bottom),
        _traffic(found, axis, traffic, names),
        _errors(found, axis, errors),
        _latency(found, axis, latency, thresholds_s),
        _time_axis(axis, bottom),
        _readouts(found, axis, traffic.top, bottom, names),
        _fault_bars(evidence, axis),
        [_flag(flag, traffic.top - 22, bottom) for flag in placed],
        class_="timeline",
        viewBox=f"0 0 {WIDTH} {bottom + 26:.0f}",
        role="img",
    )


def _description(evidence: Evidence, names: Sequence[str], start: float, end: float) -> str:
    phases = ", ".join(words.phase(p.name) for p in evidence.phases)
    served = ", ".join(names) or "nobody"
    return f"{words.duration(end - start)}: {phases}. Answered by {served}."


def _panels(
    found: Sequence[Bin], thresholds_s: Sequence[float], top: float
) -> tuple[_Panel, _Panel, _Panel]:
    rate = max((max(b.planned, b.ok.total() + b.degraded) / b.seconds for b in found), default=1)
    bad = max((b.bad_total / b.seconds for b in found), default=0)
    slow = max((b.quantile_s(0.95) or 0.0 for b in found), default=0.0)
    fast = min((b.quantile_s(0.5) or 1.0 for b in found if b.latency), default=0.01)
    traffic = _Panel(top, 150, _nice(rate))
    errors = _Panel(traffic.bottom + _GAP, 64, _nice(max(bad, 5.0)))
    high = 10.0 ** math.ceil(math.log10(max([slow, *thresholds_s], default=1) * 1.05 or 1))
    low = 10.0 ** math.floor(math.log10(max(0.9 * min([fast, *thresholds_s]), 1e-4)))
    return traffic, errors, _Panel(errors.bottom + _GAP, 120, max(high, low * 100), low)


def _nice(value: float) -> float:
    """The next of some round figures of the same power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(s * power for s in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if s * power >= value)


# ---- phases, faults and marks ------------------------------------------------------------------


def _bands(phases: Sequence[PhaseSpan], axis: _Axis, bottom: float) -> Safe:
    parts = []
    for phase in phases:
        x = axis.x(phase.start_t)
        width = axis.x(axis.end if phase.end_t is None else phase.end_t) - x
        height = bottom - _PHASES_Y - 6
        band = f"band {phase.kind}"
        parts.append(tag("rect", class_=band, x=x, y=_PHASES_Y + 6, width=width, height=height))
        label = _label(phase, width)
        if label:
            parts.append(tag("text", label, class_="phase", x=x + width / 2, y=_PHASES_Y))
    return text(parts)


def _label(phase: PhaseSpan, width: float) -> str:
    """The longest of the phase's names that fits its band; empty when none does."""
    names = [phase.kind]
    if phase.kind == "fault" and phase.fault:
        names = [f"{phase.fault} fault", phase.fault, "fault"]
    return next((name for name in names if len(name) * 6.8 <= width), "")


def _fault_bars(evidence: Evidence, axis: _Axis) -> Safe:
    """Each fault as a bar from its first call to its last undo."""
    parts = []
    for name in dict.fromkeys(action.fault for action in evidence.faults):
        actions = evidence.actions(name)
        made = [a.call_end_t for a in actions if a.call_end_t is not None]
        if not made:
            continue
        x, undone = axis.x(min(made)), [a.undo_done_t for a in actions if a.undo]
        done = [t for t in undone if t is not None]
        open_end = len(done) < len(undone)
        end = axis.x(axis.end if open_end else max(done)) if undone else x
        title = f"{name}: in place" + (", never undone" if open_end else "")
        parts.append(
            tag("rect", tag("title", title), class_="broken", x=x, y=_FAULTS_Y,
                width=max(4.0, end - x), height=6, rx=3)
        )  # fmt: skip
    return text(parts)


@dataclass(frozen=True)
class _Flag:
    """A mark whose line stands at ``x`` and whose number stands at ``at``, in ``lane``."""

    mark: Moment
    x: float
    at: float
    lane: int


def _place(marks: Sequence[Moment], axis: _Axis) -> list[_Flag]:
    """Numbers in lanes, as near to their instant as they can be without touching another."""
    free = [-math.inf] * _LANES
    placed = []
    for mark in sorted(marks, key=lambda m: m.number or 0):
        x = axis.x(mark.t or 0.0)
        lane = min(range(_LANES), key=lambda n: (max(x, free[n]), n))
        at = max(x, free[lane])
        free[lane] = at + 2 * _RADIUS + 2
        placed.append(_Flag(mark, x, at, lane))
    return placed


def _flag(flag: _Flag, plots_y: float, bottom: float) -> Safe:
    mark, y = flag.mark, _MARKS_Y + flag.lane * _LANE
    line = f"M{flag.at:.1f},{y:.0f}L{flag.x:.1f},{plots_y:.0f}V{bottom:.0f}"
    return tag(
        "g",
        tag("title", f"{mark.number}: {mark.what}"),
        tag("path", d=line),
        tag("circle", cx=flag.at, cy=y, r=_RADIUS),
        tag("text", str(mark.number), x=flag.at, y=y + 3.5),
        class_=f"mark {mark.part}",
    )


# ---- the three plots ----------------------------------------------------------------------------


def _traffic(found: Sequence[Bin], axis: _Axis, panel: _Panel, names: Sequence[str]) -> Safe:
    parts = [_title("Requests per second", panel), _grid(panel, [0, panel.high / 2, panel.high])]
    base = [0.0] * len(found)
    for index, name in enumerate(names):
        top = [b + f.ok.get(name, 0) / f.seconds for b, f in zip(base, found, strict=True)]
        parts.append(
            tag("path", class_=f"area r{index % 4}", d=_area(found, axis, panel, base, top))
        )
        base = top
    less = any(f.degraded for f in found)
    if less:
        top = [b + f.degraded / f.seconds for b, f in zip(base, found, strict=True)]
        parts.append(tag("path", class_="area less", d=_area(found, axis, panel, base, top)))
    planned = [f.planned / f.seconds for f in found]
    parts.append(
        tag("path", class_="planned", d="M" + "L".join(_edges(found, axis, planned, panel)))
    )
    x = _legend_x("Requests per second")
    keys = [(f"r{index % 4}", f"answered by {name}") for index, name in enumerate(names)]
    for kind, label in [*keys, *([("less", "degraded")] if less else [])]:
        y = panel.top - 18
        parts.append(tag("rect", class_=f"area {kind}", x=x, y=y, width=10, height=10, rx=2))
        parts.append(tag("text", label, class_="legend", x=x + 15, y=y + 9))
        x += 34 + 6.6 * len(label)
    parts.append(tag("path", class_="planned", d=f"M{x:.1f},{panel.top - 13:.1f}h16"))
    parts.append(tag("text", "planned", class_="legend", x=x + 21, y=panel.top - 9))
    return text(parts)


def _errors(found: Sequence[Bin], axis: _Axis, panel: _Panel) -> Safe:
    parts = [_title("Failed, unsure or not sent, per second", panel)]
    parts.append(_grid(panel, [0, panel.high]))
    least = 1.5 * panel.high / panel.height  # one failure in an hour must still be seen
    rates = [max(least, b.bad_total / b.seconds) if b.bad_total else 0.0 for b in found]
    area = _area(found, axis, panel, [0.0] * len(found), rates)
    return text(parts, tag("path", class_="bad", d=area) if any(rates) else None)


def _latency(
    found: Sequence[Bin], axis: _Axis, panel: _Panel, thresholds_s: Sequence[float]
) -> Safe:
    title = "Latency from the planned instant, log scale"
    parts = [_title(title, panel)]
    decades = round(math.log10(panel.high / panel.low))
    parts.append(_grid(panel, [panel.low * 10**n for n in range(decades + 1)], words_of=_axis_time))
    for threshold in thresholds_s:
        y = panel.y(threshold)
        parts.append(tag("path", class_="threshold", d=f"M{_LEFT},{y:.1f}h{_PLOT}"))
        shown = f"objective {words.millis(threshold)}"
        parts.append(tag("text", shown, class_="legend end", x=WIDTH - _RIGHT - 4, y=y - 4))
    for q, name in ((0.95, "p95"), (0.5, "p50")):
        values = [b.quantile_s(q) for b in found]
        parts.append(tag("path", class_=name, d=_line(found, axis, panel, values)))
    x = _legend_x(title)
    for name in ("p95", "p50"):
        parts.append(tag("path", class_=name, d=f"M{x:.1f},{panel.top - 13:.1f}h16"))
        parts.append(tag("text", name.upper(), class_="legend", x=x + 21, y=panel.top - 9))
        x += 66
    return text(parts)


def _axis_time(value_s: float) -> str:
    return f"{value_s:g} s" if value_s >= 1 else f"{value_s * 1e3:g} ms"


def _legend_x(title: str) -> float:
    """Where a legend may begin: behind the title, in the widest of the fonts it may be set in."""
    return _LEFT + 7.7 * len(title) + 18


def _title(label: str, panel: _Panel) -> Safe:
    return tag("text", label, class_="title", x=_LEFT, y=panel.top - 9)


def _grid(
    panel: _Panel, values: Sequence[float], words_of: Callable[[float], str] = "{:g}".format
) -> Safe:
    parts = []
    for value in values:
        y = panel.y(value)
        parts.append(tag("path", class_="grid", d=f"M{_LEFT},{y:.1f}h{_PLOT}"))
        parts.append(tag("text", words_of(value), class_="tick", x=_LEFT - 7, y=y + 4))
    return text(parts)


def _time_axis(axis: _Axis, bottom: float) -> Safe:
    length = axis.end - axis.start
    step = next((s for s in (5, 10, 15, 30, 60, 120, 300, 600, 1800) if length / s <= 16), 3600)
    parts = []
    for n in range(int(length // step) + 1):
        x = axis.x(axis.start + n * step)
        minutes, seconds = divmod(n * step, 60)
        parts.append(tag("path", class_="grid", d=f"M{x:.1f},{bottom:.0f}v5"))
        shown = f"{minutes}:{seconds:02d}"
        parts.append(tag("text", shown, class_="time", x=x, y=bottom + 19))
    return text(parts)


def _readouts(
    found: Sequence[Bin], axis: _Axis, top: float, bottom: float, names: Sequence[str]
) -> Safe:
    parts = []
    for b in found:
        x = axis.x(b.t)
        width = axis.x(b.t + b.seconds) - x
        title = tag("title", _read(b, axis.start, names))
        parts.append(tag("rect", title, x=x, y=top, width=max(0.5, width), height=bottom - top))
    return tag("g", *parts, class_="readout")


def _read(b: Bin, start: float, names: Sequence[str]) -> str:
    lines = [f"{words.clock(max(0.0, b.t - start))}  planned {b.planned / b.seconds:.0f}/s"]
    lines += [f"{name} {b.ok[name] / b.seconds:.0f}/s" for name in names if b.ok.get(name)]
    lines += [f"degraded {b.degraded / b.seconds:.0f}/s"] if b.degraded else []
    lines += [f"{what.replace('_', ' ')} {b.bad[what]}" for what in sorted(b.bad)]
    if b.latency:
        p50, p95 = words.millis(b.quantile_s(0.5)), words.millis(b.quantile_s(0.95))
        lines.append(f"P50 {p50}, P95 {p95}")
    return "\n".join(lines)


# ---- paths -------------------------------------------------------------------------------------


def _edges(found: Sequence[Bin], axis: _Axis, values: Sequence[float], panel: _Panel) -> list[str]:
    points = []
    for b, value in zip(found, values, strict=True):
        y = panel.y(value)
        points += [f"{axis.x(b.t):.1f},{y:.1f}", f"{axis.x(b.t + b.seconds):.1f},{y:.1f}"]
    return points


def _area(
    found: Sequence[Bin],
    axis: _Axis,
    panel: _Panel,
    low: Sequence[float],
    high: Sequence[float],
) -> str:
    upper, lower = _edges(found, axis, high, panel), _edges(found, axis, low, panel)
    return "M" + "L".join(upper + lower[::-1]) + "Z"


def _line(found: Sequence[Bin], axis: _Axis, panel: _Panel, values: Sequence[float | None]) -> str:
    """A line that breaks where nothing was answered."""
    path, pen_down = [], False
    for b, value in zip(found, values, strict=True):
        if value is None:
            pen_down = False
            continue
        x, y = axis.x(b.t + b.seconds / 2), panel.y(value)
        path.append(f"{'L' if pen_down else 'M'}{x:.1f},{y:.1f}")
        pen_down = True
    return "".join(path)
