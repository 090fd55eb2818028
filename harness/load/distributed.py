"""Ties master and workers to Locust's runners and their messages."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import gevent
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import MasterRunner, WorkerRunner

from harness.clock import SystemClock
from harness.errors import ExitStatus
from harness.load.fleet import Fleet
from harness.load.member import BEAT, FINISH, GO, REPORT, SHARE, Member
from harness.load.settings import Settings

log = logging.getLogger(__name__)


def lead(environment: Environment, runner: MasterRunner) -> Fleet:
    """The fleet of this master."""

    def send(kind: str, data: dict[str, Any], client_id: str) -> None:
        runner.send_message(kind, data, client_id)

    def end() -> None:
        """From a greenlet of its own: ending waits for messages that are read in this one."""
        # Whoever looks at the page may start another test.
        gevent.spawn(runner.quit if environment.web_ui is None else runner.stop)

    def over() -> None:
        if not fleet.complete and environment.process_exit_code is None:
            environment.process_exit_code = int(ExitStatus.UNKNOWN)
        end()

    def failed(why: str, status: int) -> None:
        log.error("no traffic: %s", why)
        environment.process_exit_code = status
        end()

    fleet = Fleet(send, SystemClock(), over, failed)
    runner.register_message(REPORT, _from_worker(fleet.take_report))
    return fleet


def begin_fleet(fleet: Fleet, environment: Environment, settings: Settings) -> None:
    """A test begins with the workers that are there."""
    runner = environment.runner
    assert isinstance(runner, MasterRunner)
    clients = runner.clients.ready + runner.clients.running + runner.clients.spawning
    # By their number, which Locust gives them as they connect: the same whatever they are called.
    fleet.begin(settings, sorted((c.id for c in clients), key=runner.get_worker_index))


def follow(environment: Environment, runner: WorkerRunner) -> Member:
    """This worker's part in its master's tests."""

    def send(kind: str, data: dict[str, Any]) -> None:
        runner.send_message(kind, data)

    def leave(status: int) -> None:
        environment.process_exit_code = status
        gevent.spawn(runner.quit)

    def send_statistics() -> None:
        """Locust's own, so that the master's are whole when the evidence is."""
        try:
            runner._send_stats()
        except RPCError as error:
            log.warning("the last statistics could not be sent: %s", error)

    member = Member(send, SystemClock(), os.environ, leave, send_statistics)
    for kind, take in (
        (SHARE, member.take_share),
        (BEAT, member.take_beat),
        (GO, member.take_go),
        (FINISH, member.take_finish),
    ):
        runner.register_message(kind, _from_master(take))
    return member


def _from_worker(take: Callable[[str, Any], None]) -> Callable[..., None]:
    return lambda environment, msg, **_: take(msg.node_id, msg.data)


def _from_master(take: Callable[[Any], None]) -> Callable[..., None]:
    return lambda environment, msg, **_: take(msg.data)
