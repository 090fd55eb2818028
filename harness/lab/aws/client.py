"""The supervisor's end of the AWS server: follow what is asked, report what is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import aiohttp

from harness.errors import LabError

_POLL_S = 25.0
_RETRY_S = 0.2
_CHANGE_CNAME = (
    '<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/">'
    "<ChangeBatch><Changes><Change><Action>UPSERT</Action><ResourceRecordSet>"
    "<Name>{name}.</Name><Type>CNAME</Type><TTL>{ttl_s}</TTL><ResourceRecords>"
    "<ResourceRecord><Value>{value}</Value></ResourceRecord></ResourceRecords>"
    "</ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
)


class AwsState:
    """Client of the private addresses of ``harness.lab.aws.server``.

    Use from one event loop; :meth:`close` it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._aws = f"http://{host}:{port}"
        self._url = f"{self._aws}/_lab"
        self._session: aiohttp.ClientSession | None = None
        self._applied_version = 0

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_POLL_S + 10, connect=2)
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ready(self, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until the server answers; returns its seed. Raises LabError if it does not."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await self.seed()
                    except (aiohttp.ClientError, OSError):
                        await asyncio.sleep(0.05)
        except TimeoutError:
            raise LabError(
                f"the lab's AWS API did not answer within {timeout_s:.0f} s at {self._url}",
                hint="look at its log in the lab's folder",
            ) from None

    async def seed(self) -> dict[str, Any]:
        """Ids and names of the seeded account (``harness.lab.aws.seed.describe``)."""
        async with self._http().get(f"{self._url}/seed") as response:
            response.raise_for_status()
            return dict(await response.json())

    async def state(self) -> dict[str, Any]:
        """The state now (``harness.lab.aws.state.snapshot``)."""
        return dict((await self._poll(-1, 0))["state"])

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the state now and each time it changes; endless, survives lost connections.

        Asking for the next one says that the previous has been acted upon: from then on
        :meth:`put_truth` ends the pending statuses (``rebooting``, …) it had asked for.
        """
        version = 0
        while True:
            try:
                answer = await self._poll(version, _POLL_S)
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(_RETRY_S)
                continue
            if answer["version"] == version:
                continue
            version = answer["version"]
            yield answer["state"]
            self._applied_version = version

    async def put_truth(self, truth: Mapping[str, Mapping[str, Any]]) -> None:
        """Report what is true; each part given replaces that part, one left out stays.

        ``health``: check id → ``{"healthy", "reason", "since", "observed"?, "checked"?}``
        (``HealthChecker.status()``) · ``targets``: ``"ip:port"`` → healthy, or ``{"healthy",
        "reason"}``: the gateway pods · ``databases``: instance id → ``{"zone", "status",
        "role", "source", "lag_s"}`` (``source`` an instance id; ``lag_s`` None: not
        replicating). Raises aiohttp.ClientError or OSError if the server does not answer.
        """
        body = {**truth, "applied_version": self._applied_version}
        async with self._http().put(f"{self._url}/truth", json=body) as response:
            response.raise_for_status()

    async def promote_read_replica(self, instance: str, region: str) -> None:
        """RDS PromoteReadReplica, as any caller would send it. Raises LabError if refused."""
        form = {
            "Action": "PromoteReadReplica",
            "Version": "2014-10-31",
            "DBInstanceIdentifier": instance,
        }
        await self._call("rds", region, "/", urlencode(form), "application/x-www-form-urlencoded")

    async def change_cname(self, name: str, value: str) -> None:
        """Route 53 ChangeResourceRecordSets: point CNAME ``name`` at ``value``, same TTL.

        Raises LabError if there is no such record or the change is refused.
        """
        records = (await self.state())["records"]
        record = next((r for r in records if (r["name"], r["type"]) == (name, "CNAME")), None)
        if record is None:
            raise LabError(f"no CNAME {name} in Route 53", hint="was it deleted in the AWS API?")
        path = f"/2013-04-01/hostedzone/{record['zone_id']}/rrset/"
        body = _CHANGE_CNAME.format(name=escape(name), value=escape(value), ttl_s=record["ttl_s"])
        await self._call("route53", "us-east-1", path, body, "text/xml")

    async def _call(self, service: str, region: str, path: str, body: str, kind: str) -> None:
        scope = f"Credential=lab/20250101/{region}/{service}/aws4_request"
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=lab",
            "Content-Type": kind,
        }
        async with self._http().post(self._aws + path, data=body, headers=headers) as response:
            if response.status >= 400:
                answer = (await response.text())[:300]
                raise LabError(f"the AWS API refused a call to {service}: {answer}")

    async def _poll(self, after: int, wait_s: float) -> dict[str, Any]:
        query = {"after": str(after), "wait_s": str(wait_s)}
        async with self._http().get(f"{self._url}/state", params=query) as response:
            response.raise_for_status()
            return dict(await response.json())
