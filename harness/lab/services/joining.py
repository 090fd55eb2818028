"""When a pod that has come, or has come back, may be sent requests.

That a pod answers does not mean that it can serve: the pods it needs may be a moment behind it, as
when a whole zone comes back, and its own list of them is from before. So a health check passes only
once each service it needs has an address. That is asked when the pod joins and not again later: a
service that fails is for its callers to deal with (another pod, an older copy), and must not take
them away as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from harness.lab.services.dns import DnsError, Resolver

#: A pod that nobody asked about its health for this long was out of reach: probes come each second.
AWAY_S = 3.0
#: From then on it serves what it can without the rest: one service must not keep all others away.
JOIN_S = 5.0
#: How long one health check waits for the answer to turn: less than any prober does.
_WAIT_S, _POLL_S = 0.5, 0.05


class Joining:
    """Whether the services under these host names can be called. Ask at each health check."""

    def __init__(self, resolver: Resolver, hosts: Sequence[str]) -> None:
        self._resolver = resolver
        self._hosts = hosts
        self._asked_s = self._since_s = float("-inf")
        self._done = False

    async def done(self) -> bool:
        """Whether requests may come. Waits a moment rather than say no."""
        loop = asyncio.get_running_loop()
        now_s, last_s = loop.time(), self._asked_s
        self._asked_s = now_s
        if now_s - last_s > AWAY_S:
            self._done, self._since_s = False, now_s
        while not self._done:
            self._done = await self._all_known() or loop.time() - self._since_s > JOIN_S
            if self._done or loop.time() - now_s > _WAIT_S:
                break
            await asyncio.sleep(_POLL_S)
        return self._done

    async def _all_known(self) -> bool:
        """The server is asked, so that what is known from before the pod was away is replaced."""
        found = await asyncio.gather(*(self._knows(host) for host in self._hosts))
        return all(found)

    async def _knows(self, host: str) -> bool:
        try:
            return bool(await self._resolver.addresses(host, fresh=True))
        except DnsError:
            return False
