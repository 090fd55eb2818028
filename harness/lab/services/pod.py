"""What a pod is told by its environment, and the clients it opens from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.clock import Clock, SystemClock
from harness.errors import LabError
from harness.lab.layout import DB_PORT, DB_WRITER_HOST, POD_PORT, Layout
from harness.lab.services.asgi import Header
from harness.lab.services.cache import Cache
from harness.lab.services.client import HttpClient
from harness.lab.services.database import Reader, Writer
from harness.lab.services.dns import Resolver
from harness.lab.services.joining import Joining
from harness.lab.services.metrics import Metrics

#: Seeded defects of the services: name → what it does.
DEFECTS = {
    "lost-uploads": "one upload in 200 is acknowledged but neither stored nor recorded",
    "errors-with-200": "one download in 20 answers 200 with an error as its body",
    "breaker-never-opens": "an image service that fails is asked again and again",
    "breaker-never-closes": "an image service that failed once is never asked again",
    "degrades-silently": "a placeholder is served as if it were the picture",
    "errors-not-degraded": "where a placeholder was promised there is an error",
}


@dataclass(frozen=True)
class Bucket:
    """One bucket of one regional store."""

    host: str
    port: int
    name: str


@dataclass(frozen=True)
class PodEnv:
    """The environment of a pod, read and checked."""

    app: str
    cluster: str
    zone: str
    region: str
    name: str
    ip: str
    port: int
    version: str
    dns: tuple[str, int]
    db_writer: str
    db_reader: str
    db_port: int
    store: Bucket
    store_peer: Bucket | None
    redis: tuple[str, int]
    queue: str
    defects: frozenset[str]

    @classmethod
    def read(cls, env: Mapping[str, str]) -> PodEnv:
        """From variables set by the kubelet and the manifest. Raises LabError."""
        try:
            ip = env["POD_IP"]
            layout = layout_of(ip)
            peer = env.get("LAB_STORE_PEER", "")
            return cls(
                app=env["APP"],
                cluster=env["CLUSTER"],
                zone=env["ZONE"],
                region=env["REGION"],
                name=env["POD_NAME"],
                ip=ip,
                port=int(env.get("POD_PORT", POD_PORT)),
                version=env.get("VERSION", ""),
                dns=_host_port(env["LAB_DNS"], 53),
                db_writer=env.get("LAB_DB_WRITER", DB_WRITER_HOST),
                db_reader=env.get("LAB_DB_READER", "") or layout.db(env["ZONE"]),
                db_port=int(env.get("LAB_DB_PORT", DB_PORT)),
                store=_bucket(env["LAB_STORE"], layout),
                store_peer=_bucket(peer, layout) if peer else None,
                redis=_host_port(env["LAB_REDIS"], 6379),
                queue=env["LAB_QUEUE"],
                defects=_defects(env.get("LAB_DEFECTS", "")),
            )
        except KeyError as error:
            raise LabError(
                f"the pod's environment lacks {error}", hint="compare with harness/lab/manifests.py"
            ) from error
        except ValueError as error:
            raise LabError(f"the pod's environment cannot be read: {error}") from error

    @property
    def layout(self) -> Layout:
        return layout_of(self.ip)


def layout_of(ip: str) -> Layout:
    """The layout of the lab that the address belongs to."""
    return Layout(base=int(ip.split(".")[1]))


def _host_port(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(text if "//" in text else f"//{text}")
    if not parts.hostname:
        raise ValueError(f"no host in {text!r}")
    return parts.hostname, parts.port or default_port


def _bucket(url: str, layout: Layout) -> Bucket:
    host, port = _host_port(url, 9000)
    name = urlsplit(url).path.strip("/")
    if not name:
        name = next((r.bucket for r in layout.regions if layout.store(r.name) == host), "")
    if not name:
        raise ValueError(f"no bucket in {url!r}")
    return Bucket(host, port, name)


def _defects(text: str) -> frozenset[str]:
    names = frozenset(part.strip() for part in text.split(",") if part.strip())
    unknown = names - set(DEFECTS)
    if unknown:
        raise ValueError(f"unknown defects {sorted(unknown)}; known: {sorted(DEFECTS)}")
    return names


class Pod:
    """A pod's identity and its clients. Make it inside the event loop; close it at the end."""

    def __init__(self, env: PodEnv, clock: Clock | None = None) -> None:
        self.env = env
        self.clock: Clock = clock or SystemClock()
        self.metrics = Metrics(
            {"region": env.region, "zone": env.zone, "pod": env.name, "version": env.version}
        )
        self.resolver = Resolver(env.dns, refresh_s=0.5 if env.app == "gateway" else 1.0)
        self.client = HttpClient(self.resolver)
        self.writer = Writer(self.resolver, env.db_writer, env.db_port)
        self.reader = Reader(self.resolver, env.db_reader, env.db_port, self.writer)
        self.cache = Cache(*env.redis)

    def service(self, name: str) -> str:
        """Host name of another service of this cluster."""
        return self.env.layout.service_host(name, self.env.cluster)

    def joining(self, *services: str) -> Joining:
        """Whether these services, without which it cannot serve, can be called."""
        return Joining(self.resolver, [self.service(name) for name in services])

    def served_by(self) -> list[Header]:
        env = self.env
        return [
            (b"x-served-region", env.region.encode()),
            (b"x-served-zone", env.zone.encode()),
            (b"x-served-cluster", env.cluster.encode()),
            (b"x-served-pod", env.name.encode()),
            (b"x-served-version", env.version.encode()),
        ]

    async def close(self) -> None:
        await self.client.close()
        await self.cache.close()
        self.writer.close()
        self.reader.close()
        await self.resolver.close()
