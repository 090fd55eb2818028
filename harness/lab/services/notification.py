"""The notification service: takes file events from the queue and counts what it would send."""

from __future__ import annotations

from typing import Any

from harness.lab.services.asgi import App
from harness.lab.services.events import Subscriber
from harness.lab.services.pod import Pod


class Notification(App):
    name = "notification"

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod.metrics, pod.served_by())
        self._pod = pod
        self._subscriber = Subscriber(pod.env.queue, self._deliver)
        for event in ("uploaded", "deleted"):
            self.metrics.inc("notifications_delivered_total", 0, event=event)
        self.metrics.gauge("queue_depth", lambda: self._subscriber.depth)

    async def startup(self) -> None:
        self._subscriber.start()

    async def shutdown(self) -> None:
        await self._subscriber.close()
        await self._pod.close()

    def _deliver(self, subject: str, event: dict[str, Any]) -> None:
        self.metrics.inc("notifications_delivered_total", event=subject.removeprefix("file."))
