"""The few public AWS calls the recovery automation makes, without the weight of boto3.

Plain query and REST requests with a signature-shaped header: the stand-in routes by the
credential scope in it and checks no signature.
"""

from __future__ import annotations

from urllib.parse import quote
from xml.sax.saxutils import escape

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=3.0)
_ROUTE53_XMLNS = "https://route53.amazonaws.com/doc/2013-04-01/"


class AwsCalls:
    """Calls to the AWS API at ``endpoint_url``; each raises OSError when it did not take them."""

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url

    async def promote_read_replica(self, instance: str, region: str) -> None:
        """RDS PromoteReadReplica."""
        body = (
            f"Action=PromoteReadReplica&Version=2014-10-31&DBInstanceIdentifier={quote(instance)}"
        )
        await self._post("/", body, "application/x-www-form-urlencoded", "rds", region)

    async def upsert_cname(self, zone_id: str, name: str, value: str, ttl_s: int) -> None:
        """Route 53 ChangeResourceRecordSets with one UPSERT."""
        body = (
            f'<ChangeResourceRecordSetsRequest xmlns="{_ROUTE53_XMLNS}"><ChangeBatch><Changes>'
            f"<Change><Action>UPSERT</Action><ResourceRecordSet><Name>{escape(name)}.</Name>"
            f"<Type>CNAME</Type><TTL>{ttl_s}</TTL><ResourceRecords><ResourceRecord>"
            f"<Value>{escape(value)}</Value></ResourceRecord></ResourceRecords>"
            "</ResourceRecordSet></Change></Changes></ChangeBatch>"
            "</ChangeResourceRecordSetsRequest>"
        )
        path = f"/2013-04-01/hostedzone/{quote(zone_id.rpartition('/')[2])}/rrset/"
        await self._post(path, body, "application/xml", "route53", "us-east-1")

    async def _post(self, path: str, body: str, kind: str, service: str, region: str) -> None:
        scope = f"lab/20260101/{region}/{service}/aws4_request"
        headers = {
            "Content-Type": kind,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, "
            f"Signature={'0' * 64}",
        }
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(self._endpoint_url + path, data=body, headers=headers) as answer,
            ):
                if answer.status < 400:
                    return
                text = await answer.text()
        except aiohttp.ClientError as error:
            raise OSError(f"{service} did not answer: {error}") from error
        raise OSError(f"{service} answered {answer.status}: {text[:200]}")
