"""The timeline: traffic, errors and latency over the faults, as one SVG.

Drawn here rather than by a script in the page, so that it prints, needs no network and
is the same bytes for the same evidence. Colours are CSS classes: the page decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from harness.evidence.model import Evidence, PhaseSpan
from harness.report.figures import Bin, bins, regions, span

WIDTH, LEFT, RIGHT = 1080, 62, 14
PLOT = WIDTH - LEFT - RIGHT
_TOP, _GAP = 104, 28
_HEIGHTS = {"traffic": 150, "errors": 70, "latency": 110}


@dataclass(frozen=True)
class Mark:
    """A numbered instant drawn over all panels and explained below."""

    t: float
    number: int
    what: str


@dataclass(frozen=True)
class _Panel:
    top: float
    height: float
    high: float

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - min(value, self.high) / self.high)


def timeline(
    evidence: Evidence, marks: Sequence[Mark], thresholds_s: Sequence[float], order: Sequence[str]
) -> str:
    """The SVG, or an empty string when no phase ran."""
    start, end = span(evidence)
    found = bins(evidence)
    if end <= start:
        return ""
    axis = _Axis(start, end)
    traffic, errors, latency = _panels(found, thresholds_s)
    bottom = latency.top + latency.height
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {bottom + 40:.0f}" role="img" '
        'aria-label="Traffic, errors and latency over the phases of the run">',
        *_bands(evidence.phases, axis, bottom),
        *_faults(evidence, axis, bottom),
        *_traffic(found, axis, traffic, regions(found, {n: i for i, n in enumerate(order)})),
        *_errors(found, axis, errors),
        *_latency(found, axis, latency, thresholds_s),
        *_marks(marks, axis, bottom),
        *_time_axis(axis, bottom),
        "</svg>",
    ]
    return "\n".join(parts)


@dataclass(frozen=True)
class _Axis:
    start: float
    end: float

    def x(self, t: float) -> float:
        share = (t - self.start) / (self.end - self.start)
        return LEFT + PLOT * min(1.0, max(0.0, share))


def _panels(found: list[Bin], thresholds_s: Sequence[float]) -> tuple[_Panel, _Panel, _Panel]:
    rate = max((b.planned / b.seconds for b in found), default=1)
    bad = max((b.bad / b.seconds for b in found), default=0)
    slow = max((b.quantile_s(0.95) or 0.0 for b in found), default=0.0)
    top = _TOP
    made = []
    for name, high in (("traffic", _nice(rate * 1.05)), ("errors", _nice(max(bad, 5.0))),
                       ("latency", _nice(max([slow, *(2 * t for t in thresholds_s)], default=1)))):
        made.append(_Panel(top, _HEIGHTS[name], high))
        top += _HEIGHTS[name] + _GAP
    return made[0], made[1], made[2]


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= value)


def _bands(phases: Sequence[PhaseSpan], axis: _Axis, bottom: float) -> list[str]:
    parts = []
    for phase in phases:
        x = axis.x(phase.start_t)
        width = axis.x(phase.end_t if phase.end_t is not None else axis.end) - x
        label = phase.name.replace("fault:", "").replace("recovery:", "")
        kind = phase.kind.replace("-", "")
        parts.append(f'<rect class="band {kind}" x="{x:.1f}" y="22" width="{width:.1f}" '
                     f'height="{bottom - 22:.0f}"/>')
        if width > 26:
            shown = label if phase.kind != "recovery" else "recovery"
            parts.append(f'<text class="phase" x="{x + width / 2:.1f}" y="16">'
                         f"{escape(_fit(shown, width))}</text>")
    return parts


def _fit(text: str, width: float) -> str:
    room = int(width / 6.2)
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def _faults(evidence: Evidence, axis: _Axis, bottom: float) -> list[str]:
    parts = []
    for fault in evidence.faults:
        x = axis.x(fault.call_end_t or fault.start_t)
        end = axis.x(fault.undo_done_t) if fault.undo_done_t is not None else x
        parts.append(f'<rect class="broken" x="{x:.1f}" y="26" width="{max(3.0, end - x):.1f}" '
                     f'height="6" rx="2"><title>{escape(fault.fault)}: fault in place</title></rect>')
    return parts


def _traffic(found: list[Bin], axis: _Axis, panel: _Panel, names: list[str]) -> list[str]:
    parts = [_title("requests per second", panel), *_grid(panel, "{:g}")]
    base = [0.0] * len(found)
    for index, name in enumerate(names):
        top = [b + f.ok.get(name, 0) / f.seconds for b, f in zip(base, found, strict=True)]
        parts.append(f'<path class="area r{index % 4}" d="{_area(found, axis, panel, base, top)}">'
                     f"<title>answered by {escape(name)}</title></path>")
        base = top
    planned = [f.planned / f.seconds for f in found]
    parts.append(f'<path class="planned" d="{_steps(found, axis, panel, planned)}"/>')
    x = LEFT + 150
    for index, name in enumerate(names):
        parts.append(f'<rect class="area r{index % 4}" x="{x}" y="{panel.top - 14}" width="10" '
                     f'height="10"/><text class="legend" x="{x + 14}" y="{panel.top - 5}">'
                     f"{escape(name)}</text>")
        x += 40 + 7 * len(name)
    parts.append(f'<path class="planned" d="M{x},{panel.top - 9}h14"/>'
                 f'<text class="legend" x="{x + 18}" y="{panel.top - 5}">planned</text>')
    return parts


def _errors(found: list[Bin], axis: _Axis, panel: _Panel) -> list[str]:
    parts = [_title("failed, unsure or not sent per second", panel), *_grid(panel, "{:g}")]
    for b in found:
        if b.bad:
            x, width = axis.x(b.t), max(1.0, axis.x(b.t + b.seconds) - axis.x(b.t))
            y = panel.y(b.bad / b.seconds)
            parts.append(f'<rect class="bad" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                         f'height="{panel.top + panel.height - y:.1f}"/>')
    return parts


def _latency(
    found: list[Bin], axis: _Axis, panel: _Panel, thresholds_s: Sequence[float]
) -> list[str]:
    parts = [_title("latency from the planned instant, P50 and P95", panel),
             *_grid(panel, "{} ms", 1000)]
    for threshold in thresholds_s:
        y = panel.y(threshold)
        parts.append(f'<path class="threshold" d="M{LEFT},{y:.1f}h{PLOT}"/>'
                     f'<text class="legend end" x="{WIDTH - RIGHT}" y="{y - 4:.1f}">'
                     f"{threshold * 1000:g} ms</text>")
    for q, name in ((0.95, "p95"), (0.5, "p50")):
        values = [b.quantile_s(q) for b in found]
        parts.append(f'<path class="{name}" d="{_line(found, axis, panel, values)}"/>')
    return parts


def _title(text: str, panel: _Panel) -> str:
    return f'<text class="title" x="{LEFT}" y="{panel.top - 5:.0f}">{text}</text>'


def _grid(panel: _Panel, form: str, factor: float = 1.0) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value, y = panel.high * share, panel.y(panel.high * share)
        label = form.format(f"{value * factor:g}") if factor != 1 else f"{value:g}"
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}h{PLOT}"/>'
                     f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}">{label}</text>')
    return parts


def _marks(marks: Sequence[Mark], axis: _Axis, bottom: float) -> list[str]:
    parts, last_x, level = [], -99.0, 0
    for mark in marks:
        x = axis.x(mark.t)
        level = (level + 1) % 3 if x - last_x < 17 else 0
        last_x = x
        y = 42 + level * 15
        parts.append(f'<g class="mark"><path d="M{x:.1f},{y}V{bottom:.0f}"/>'
                     f'<circle cx="{x:.1f}" cy="{y}" r="7"/>'
                     f'<text x="{x:.1f}" y="{y + 3.5:.1f}">{mark.number}</text>'
                     f"<title>{escape(mark.what)}</title></g>")
    return parts


def _time_axis(axis: _Axis, bottom: float) -> list[str]:
    length = axis.end - axis.start
    step = next((s for s in (5, 10, 15, 30, 60, 120, 300, 600, 1800) if length / s <= 14), 3600)
    parts = []
    for n in range(int(length // step) + 1):
        x = axis.x(axis.start + n * step)
        minutes, seconds = divmod(n * step, 60)
        parts.append(f'<path class="grid" d="M{x:.1f},{bottom:.0f}v5"/>'
                     f'<text class="time" x="{x:.1f}" y="{bottom + 18:.0f}">'
                     f"{minutes}:{seconds:02d}</text>")
    return parts


def _edges(found: list[Bin], axis: _Axis, values: Sequence[float], panel: _Panel) -> list[str]:
    points = []
    for b, value in zip(found, values, strict=True):
        y = panel.y(value)
        points += [f"{axis.x(b.t):.1f},{y:.1f}", f"{axis.x(b.t + b.seconds):.1f},{y:.1f}"]
    return points


def _steps(found: list[Bin], axis: _Axis, panel: _Panel, values: Sequence[float]) -> str:
    return "M" + "L".join(_edges(found, axis, values, panel))


def _area(
    found: list[Bin], axis: _Axis, panel: _Panel, low: Sequence[float], high: Sequence[float]
) -> str:
    upper, lower = _edges(found, axis, high, panel), _edges(found, axis, low, panel)
    return "M" + "L".join(upper + lower[::-1]) + "Z"


def _line(found: list[Bin], axis: _Axis, panel: _Panel, values: Sequence[float | None]) -> str:
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
