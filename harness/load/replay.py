"""The Locust user that sends recorded traffic instead of operations of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from harness.clock import Clock
from harness.errors import PlanInvalid
from harness.load import relay
from harness.load.engine import Traffic
from harness.load.ledger import Ledger
from harness.load.recorded import Replay, records_of
from harness.load.settings import Settings
from harness.load.user import OpenLoopUser, pen_of
from harness.load.wire.client import HttpClient
from harness.plan.recording import Records

#: How far ahead the fullest second of a recording is looked for.
_LOOK_AHEAD_S = 3600.0


class RecordedUser(OpenLoopUser):
    """Sends the requests of a recording when they are due; ``headers`` go with each of them."""

    abstract = True
    headers: Mapping[str, str] = {}
    _records: Records

    def settle(self, settings: Settings) -> Settings:
        records = records_of(settings)
        if records is None:
            raise PlanInvalid(
                "there is no recording to replay",
                hint="--recording access.log, or recording: in the traffic of a plan",
            )
        self._records = records
        ahead_s = min(_LOOK_AHEAD_S, records.period_s / settings.speed)
        fullest = max(records.per_second(settings.speed, ahead_s))
        return dataclasses.replace(
            settings, rate=float(max(1, fullest)), shape="", arrivals="recorded", mix={}
        )

    def bring(self, settings: Settings, http: HttpClient, clock: Clock) -> Traffic:
        # An empty ledger says that this process has stored nothing that must be there later.
        name = settings.worker_name
        Ledger(pen_of(settings)(relay.ledger_file(name), f"ledger/{name}")).close()
        return super().bring(settings, http, clock)

    def replay(self, settings: Settings, http: HttpClient) -> Replay:
        return Replay(self._records, settings, http, self.headers)
