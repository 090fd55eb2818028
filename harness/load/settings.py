"""What a generator process is told: read once, from the environment, into one value.

The driver passes the plan this way; a user who runs plain ``locust`` sets the same
variables or nothing at all.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import PlanInvalid
from harness.load.arrivals import POISSON
from harness.plan.behaviour import Behaviour
from harness.plan.logfile import METHODS, SAFE
from harness.plan.quantities import speed_of
from harness.plan.rates import Curve, constant
from harness.plan.shapes import is_shape, parse_rate

DEFAULT_RATE = 50.0


@dataclass(frozen=True)
class Settings:
    """Durations in seconds, ``rate`` in arrivals per second over all workers.

    ``shape`` is empty, or says in words how the rate goes over time, up to ``rate``
    (:mod:`harness.plan.shapes`).
    ``mix`` maps operation names to shares; empty means the weights of the locustfile.
    ``run_dir`` None: no evidence is written.
    """

    rate: float = DEFAULT_RATE
    arrivals: str = POISSON
    seed: int = 0
    mix: Mapping[str, float] = field(default_factory=dict)
    timeout_s: float = 5.0
    duration_s: float | None = None
    #: instead of a schedule: so many arrivals at once, each following the last (0: a schedule)
    closed: int = 0
    shape: str = ""
    #: instead of a rate: the file to replay, how many times as fast, which methods of it, and
    #: whether it begins anew when it is over
    recording: str | None = None
    speed: float = 1.0
    methods: tuple[str, ...] = SAFE
    loop: bool = False
    run_dir: Path | None = None
    dns_server: str | None = None
    #: which of how many generator processes this is; the master of several says so
    worker: int = 0
    workers: int = 1
    thresholds_s: tuple[float, ...] = (0.2,)
    #: arrivals beyond this many in flight are not sent; None: see :attr:`in_flight_limit`
    max_in_flight: int | None = None
    connection_age_s: float = 10.0
    #: what the plan says of its users' behaviour; the rest is as the locustfile has it
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    #: accounts the users share
    virtual_users: int = 20
    warm_up_files: int = 90
    warm_up_images: int = 10
    warm_up_s: float = 60.0
    user: str = "lab"
    password: str = "lab"

    @property
    def worker_name(self) -> str:
        return f"w{self.worker}"

    @property
    def in_flight_limit(self) -> int:
        """How many arrivals of this worker may be in flight.

        By default as many as can be when nothing is answered before the timeout, half as
        many again, and never so few that a short stall is felt.
        """
        if self.max_in_flight is not None:
            return self.max_in_flight
        return max(
            400, self.closed, math.ceil(1.5 * self.planned.peak / self.workers * self.timeout_s)
        )

    @property
    def closed_share(self) -> int:
        """How many of ``closed`` this worker has going; one more, one less where they differ."""
        return len(range(self.worker, self.closed, self.workers))

    @property
    def planned(self) -> Curve:
        """The rate over time, of all workers together."""
        return parse_rate(self.shape) if self.shape else constant(self.rate)

    def of_worker(self, worker: int, workers: int) -> Settings:
        """These settings for process ``worker`` (from 0) of ``workers``."""
        return dataclasses.replace(self, worker=worker, workers=workers)

    def environment(self) -> dict[str, str]:
        """The variables from which :func:`from_environment` makes this value again.

        The login is left out: a child process inherits it from the environment it was
        given in, and it is written nowhere. So is which worker it is for.
        """
        return {
            "RATE": self.shape or str(self.rate),
            "ARRIVALS": self.arrivals,
            "SEED": str(self.seed),
            "MIX": ",".join(f"{name}={share}" for name, share in self.mix.items()),
            "TIMEOUT": str(self.timeout_s),
            "DURATION": "" if self.duration_s is None else str(self.duration_s),
            "CLOSED": str(self.closed or ""),
            "RECORDING": self.recording or "",
            "SPEED": str(self.speed),
            "METHODS": ",".join(self.methods),
            "LOOP": "yes" if self.loop else "",
            "HARNESS_RUN_DIR": str(self.run_dir or ""),
            "HARNESS_DNS": self.dns_server or "",
            "HARNESS_THRESHOLDS": ",".join(str(s) for s in self.thresholds_s),
            "HARNESS_MAX_IN_FLIGHT": "" if self.max_in_flight is None else str(self.max_in_flight),
            "HARNESS_CONNECTION_AGE": str(self.connection_age_s),
            "HARNESS_BEHAVIOUR": json.dumps(dict(self.behaviour)) if self.behaviour else "",
            "HARNESS_VIRTUAL_USERS": str(self.virtual_users),
            "HARNESS_WARM_UP_FILES": str(self.warm_up_files),
            "HARNESS_WARM_UP_IMAGES": str(self.warm_up_images),
            "HARNESS_WARM_UP_LIMIT": str(self.warm_up_s),
        }


def from_environment(env: Mapping[str, str]) -> Settings:
    """Settings from variables; one that is unset or empty keeps its default.

    Durations are in seconds (``5`` or ``5s``), a rate is ``200``, ``200/s`` or as in a plan
    (``ramp 50/s to 500/s over 2m``).
    Raises PlanInvalid naming the variable that cannot be read.
    """
    default = Settings()
    reader = _Reader(env)
    thresholds = reader.text("HARNESS_THRESHOLDS")
    duration_s = reader.number("DURATION", -1.0)
    rate, shape = reader.rate("RATE", default.rate)
    return Settings(
        rate=rate,
        shape=shape,
        arrivals=reader.text("ARRIVALS") or default.arrivals,
        seed=reader.whole("SEED", default.seed),
        mix=reader.mix("MIX"),
        timeout_s=reader.number("TIMEOUT", default.timeout_s),
        duration_s=duration_s if duration_s >= 0 else None,
        closed=reader.whole("CLOSED", 0),
        recording=reader.text("RECORDING") or None,
        speed=reader.speed("SPEED"),
        methods=reader.methods("METHODS"),
        loop=reader.text("LOOP").lower() not in ("", "0", "no", "false"),
        run_dir=Path(env["HARNESS_RUN_DIR"]) if reader.text("HARNESS_RUN_DIR") else None,
        dns_server=reader.text("HARNESS_DNS") or None,
        thresholds_s=(
            tuple(reader.parse("HARNESS_THRESHOLDS", part) for part in thresholds.split(","))
            if thresholds
            else default.thresholds_s
        ),
        max_in_flight=reader.whole("HARNESS_MAX_IN_FLIGHT", 0) or None,
        connection_age_s=reader.number("HARNESS_CONNECTION_AGE", default.connection_age_s),
        behaviour=reader.behaviour("HARNESS_BEHAVIOUR"),
        virtual_users=reader.whole("HARNESS_VIRTUAL_USERS", default.virtual_users),
        warm_up_files=reader.whole("HARNESS_WARM_UP_FILES", default.warm_up_files),
        warm_up_images=reader.whole("HARNESS_WARM_UP_IMAGES", default.warm_up_images),
        warm_up_s=reader.number("HARNESS_WARM_UP_LIMIT", default.warm_up_s),
        user=reader.text("HARNESS_USER") or default.user,
        password=reader.text("HARNESS_PASSWORD") or default.password,
    )


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str:
        return self._env.get(name, "").strip()

    def number(self, name: str, default: float) -> float:
        text = self.text(name)
        return self.parse(name, text) if text else default

    def whole(self, name: str, default: int) -> int:
        value = self.number(name, float(default))
        if value != int(value):
            raise PlanInvalid(f"{name}={value:g} is not a whole number", hint=f"{name}={default}")
        return int(value)

    def mix(self, name: str) -> dict[str, float]:
        shares = {}
        for part in filter(None, self.text(name).split(",")):
            op, equals, share = part.partition("=")
            if not equals:
                raise PlanInvalid(f"{name}: {part!r} has no share", hint="download=70,upload=30")
            shares[op.strip()] = self.parse(name, share)
        return shares

    def rate(self, name: str, default: float) -> tuple[float, str]:
        """The highest rate, and the words of its shape if it has one."""
        text = self.text(name)
        if not is_shape(text):
            return self.number(name, default), ""
        try:
            return parse_rate(text).peak, text
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            raise PlanInvalid(f"{name}: {message}", hint=hint) from error

    def speed(self, name: str) -> float:
        text = self.text(name)
        try:
            return speed_of(text.removesuffix("x") + "x") if text else 1.0
        except ValueError as error:
            raise PlanInvalid(f"{name}: {text!r} is not a speed", hint=f"{name}=2") from error

    def methods(self, name: str) -> tuple[str, ...]:
        given = tuple(filter(None, (m.strip() for m in self.text(name).split(","))))
        unknown = [method for method in given if method not in METHODS]
        if unknown:
            raise PlanInvalid(
                f"{name}: {unknown[0]!r} is not a method to replay", hint=", ".join(METHODS)
            )
        return given or SAFE

    def behaviour(self, name: str) -> dict[str, Any]:
        text = self.text(name)
        try:
            given = dict(json.loads(text)) if text else {}
            Behaviour().changed(given)
        except (ValueError, TypeError) as error:
            hint = '{"verify": 0.1, "hot_share": 0.2, "hot_objects": 3}'
            raise PlanInvalid(f"{name} is no behaviour: {error}", hint=hint) from error
        return given

    def parse(self, name: str, text: str) -> float:
        try:
            return float(text.strip().removesuffix("/s").removesuffix("s"))
        except ValueError as error:
            raise PlanInvalid(f"{name}={text!r} is not a number", hint=f"{name}=5") from error
