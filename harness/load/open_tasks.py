"""Plain Locust tasks on an open schedule: a task begins when it is due, whatever the others do.

::

    class Shopper(OpenHarnessUser):          # was: FastHttpUser
        @task(3)
        def browse(self):
            self.client.get("/items")

        @task
        def buy(self):
            with self.client.post("/cart", json={"item": 1}, catch_response=True) as answer:
                ...

Each arrival is a task, drawn by weight, and done by a user nobody else is using at that moment:
one that has finished before, else a new one (``on_start`` is part of its first task). What is
counted is the task, from its planned instant to its end; it has failed when it raises or a
request of it does. Locust's statistics show the requests, as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gevent import GreenletExit
from locust.exception import RescheduleTask, StopUser
from locust.user.task import LOCUST_STATE_WAITING, TaskSet

from harness.errors import PlanInvalid
from harness.load.engine import Engine, Takeoff
from harness.load.flights import Flight, TaskFlight
from harness.load.outcome import FAILED, OK, Outcome
from harness.load.session import HarnessUser
from harness.load.user import OpenLoopUser, host_engine
from harness.load.wire.client import HttpClient


class OpenHarnessUser(OpenLoopUser, HarnessUser):
    """Base class of users whose tasks are sent on an open schedule; see the module's docstring."""

    abstract = True
    tells_locust = False

    def run(self) -> None:  # type: ignore[misc]
        """Send the schedule; Locust's own would do one task after another."""
        self._state = LOCUST_STATE_WAITING  # it may be ended at any time
        with suppress(GreenletExit, StopUser):
            host_engine(self)

    def takeoffs(self, traffic: Any, http: HttpClient) -> dict[str, tuple[float, Takeoff]]:
        """Task → (weight, how an arrival of it takes off). Raises PlanInvalid."""
        weights = Counter(t for t in self.tasks if t is not OpenLoopUser.traffic)
        if not weights:
            raise PlanInvalid(f"{type(self).__name__} has no task", hint="mark a method with @task")
        users = _Users(type(self), self.environment)
        found = {}
        for task, weight in weights.items():
            if isinstance(task, type) and issubclass(task, TaskSet):
                raise PlanInvalid(
                    f"{task.__name__} is a TaskSet: steps that follow each other, and not arrivals",
                    hint="make its tasks methods of the user class, or use HarnessUser",
                )
            found[task.__name__] = (float(weight), _taking_off(task.__name__, users, task))
        return found


class _Users:
    """Users that are doing nothing; a new one where there is none."""

    def __init__(self, kind: type[OpenHarnessUser], environment: Any) -> None:
        self._kind = kind
        self._environment = environment
        self._free: list[OpenHarnessUser] = []

    def do(self, task: Callable[[Any], object]) -> Outcome:
        """Have a user do ``task``, in the current greenlet."""
        user = self._free.pop() if self._free else None
        if user is None:
            user = self._kind(self._environment)
            user.client.request_event = _Noted(user.client.request_event)
            user.on_start()
        noted = user.client.request_event
        noted.error = ""
        # One whose task raised, or that ends itself, is not used again.
        try:
            task(user)
            self._free.append(user)
        except (StopUser, RescheduleTask):
            pass
        except Exception as error:
            self._environment.events.user_error.fire(
                user_instance=user, exception=error, tb=error.__traceback__
            )
            raise
        return Outcome(FAILED, noted.error) if noted.error else Outcome(OK)


class _Noted:
    """Locust's request event, and the first error it told since it was last looked at."""

    def __init__(self, event: Any) -> None:
        self._event = event
        self.error = ""

    def fire(self, **about: Any) -> None:
        error = about.get("exception")
        if error is not None and not self.error:
            status = getattr(about.get("response"), "status_code", 0)
            self.error = f"status-{status}" if status else f"exception-{type(error).__name__}"
        self._event.fire(**about)


def _taking_off(name: str, users: _Users, task: Callable[[Any], object]) -> Takeoff:
    def take_off(engine: Engine, planned_t: float, planned_m: float) -> Flight:
        return TaskFlight(engine, name, partial(users.do, task), planned_t, planned_m)

    return take_off
