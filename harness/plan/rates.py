"""How many arrivals are planned, as a function of time: pure, and the same for sender and judge.

A curve is a row of straight pieces (a step is a flat one, a ramp a sloping one, a day a
hundred short ones); after the last its final rate holds. Straight pieces have a sum with a
closed form, and so has its inverse: the instant at which the n-th arrival is due.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from functools import cached_property

#: Straight pieces a sine wave of one day is made of: off by at most 0.1 % of its height.
DAY_PIECES = 96


@dataclass(frozen=True)
class Piece:
    """``duration_s`` seconds in which the rate goes evenly from ``start`` to ``end`` per second."""

    duration_s: float
    start: float
    end: float

    def arrivals(self, after_s: float) -> float:
        """Arrivals in the first ``after_s`` seconds of it."""
        return after_s * (self.start + (self.end - self.start) * after_s / self.duration_s / 2)

    def instant_s(self, arrivals: float) -> float:
        """When that many have come: the root of ``start * t + slope * t² / 2 = arrivals``."""
        slope = (self.end - self.start) / self.duration_s
        # The form that keeps its digits when the slope is next to nothing. Roots are taken before
        # they are multiplied: the product of two figures next to nothing would be none at all.
        gained = math.sqrt(2 * abs(slope)) * math.sqrt(arrivals)
        if slope >= 0:
            root = math.hypot(self.start, gained)
        else:
            root = math.sqrt(max(0.0, self.start - gained)) * math.sqrt(self.start + gained)
        if not self.start + root:
            return 0.0
        # Rates next to nothing have hardly any digits: never later than the end of the piece.
        return min(self.duration_s, 2 * arrivals / (self.start + root))


@dataclass(frozen=True)
class Curve:
    """Planned arrivals per second, from the start of the traffic on. Times in seconds."""

    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for a curve that sends nothing in the end, or runs backwards."""
        if not self.pieces:
            raise ValueError("a curve needs at least one piece")
        for piece in self.pieces:
            if not piece.duration_s > 0:
                raise ValueError(f"a piece of {piece.duration_s:g} s has no length")
            if piece.start < 0 or piece.end < 0:
                raise ValueError("a rate cannot be below zero")
        if not self.pieces[-1].end > 0:
            raise ValueError("the last rate is zero: the traffic would never go on")

    @property
    def peak(self) -> float:
        """The highest rate."""
        return max(max(piece.start, piece.end) for piece in self.pieces)

    @property
    def is_constant(self) -> bool:
        """Whether the rate is the same all the time."""
        return len({rate for piece in self.pieces for rate in (piece.start, piece.end)}) == 1

    @cached_property
    def _starts_s(self) -> list[float]:
        lengths = (piece.duration_s for piece in self.pieces)
        return [0.0, *itertools.accumulate(lengths)]

    @cached_property
    def _sums(self) -> list[float]:
        return [0.0, *itertools.accumulate(p.arrivals(p.duration_s) for p in self.pieces)]

    def rate_at(self, t_s: float) -> float:
        """Arrivals per second at an instant; at a step, those after it."""
        index = bisect.bisect_right(self._starts_s, max(0.0, t_s)) - 1
        if index >= len(self.pieces):
            return self.pieces[-1].end
        piece = self.pieces[index]
        done = (max(0.0, t_s) - self._starts_s[index]) / piece.duration_s
        return piece.start + (piece.end - piece.start) * done

    @cached_property
    def surge_s(self) -> tuple[float, float] | None:
        """From when to when the rate is above the one it began with; None where it never is, is so
        more than once, or never comes back."""
        base = self.pieces[0].start
        above = [n for n, piece in enumerate(self.pieces) if max(piece.start, piece.end) > base]
        once = above == list(range(above[0], above[-1] + 1)) if above else False
        if not once or self.pieces[-1].end > base:
            return None
        first, last = self.pieces[above[0]], self.pieces[above[-1]]
        start_s, end_s = self._starts_s[above[0]], self._starts_s[above[-1] + 1]
        # Down a ramp that began below: from where it crosses the rate.
        if first.start < base:
            start_s += first.duration_s * (base - first.start) / (first.end - first.start)
        if last.end < base:
            end_s -= last.duration_s * (base - last.end) / (last.start - last.end)
        return start_s, end_s

    def arrivals_by(self, t_s: float) -> float:
        """Arrivals planned from the start to an instant."""
        if t_s <= 0:
            return 0.0
        index = bisect.bisect_right(self._starts_s, t_s) - 1
        if index >= len(self.pieces):
            return self._sums[-1] + (t_s - self._starts_s[-1]) * self.pieces[-1].end
        return self._sums[index] + self.pieces[index].arrivals(t_s - self._starts_s[index])

    def instant_s(self, arrivals: float) -> float:
        """When that many arrivals have been planned; the inverse of :meth:`arrivals_by`."""
        index = bisect.bisect_right(self._sums, arrivals) - 1
        if index >= len(self.pieces):
            return self._starts_s[-1] + (arrivals - self._sums[-1]) / self.pieces[-1].end
        return self._starts_s[index] + self.pieces[index].instant_s(arrivals - self._sums[index])


def constant(rate: float) -> Curve:
    """The same rate all the time."""
    return Curve((Piece(1.0, rate, rate),))


def ramp(start: float, end: float, over_s: float) -> Curve:
    """Evenly from one rate to another, which then holds."""
    return Curve((Piece(over_s, start, end),))


def steps(rates: tuple[tuple[float, float], ...]) -> Curve:
    """``(rate, for seconds)`` one after another; the last holds."""
    return Curve(tuple(Piece(for_s, rate, rate) for rate, for_s in rates))


def spike(base: float, top: float, at_s: float, for_s: float) -> Curve:
    """A base rate, a burst to ``top`` that begins at ``at_s`` and is over ``for_s`` later."""
    return Curve((Piece(at_s, base, base), Piece(for_s, top, top), Piece(1.0, base, base)))


def diurnal(low: float, high: float, period_s: float, peak_s: float) -> Curve:
    """One day as a sine wave between two rates, its peak ``peak_s`` after the start.

    After ``period_s`` the rate it began with holds. Traffic of people follows the day closely
    enough for a wave of one period to be the usual first model of it.
    """
    middle, height = (high + low) / 2, (high - low) / 2

    def at(t_s: float) -> float:
        return middle + height * math.cos(2 * math.pi * (t_s - peak_s) / period_s)

    edges = [period_s * n / DAY_PIECES for n in range(DAY_PIECES + 1)]
    return Curve(tuple(Piece(b - a, at(a), at(b)) for a, b in itertools.pairwise(edges)))
