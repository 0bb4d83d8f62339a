"""Services: an address that leads each new connection to a pod that is ready, as kube-proxy does.

A connection stays with its pod, also when that one is to end. A pod that is to end is led nobody to, but only
``HEARD_AFTER_S`` after it was told so: endpoints are withdrawn beside the signal, not before it, and every node hears
of it a moment later. Whoever comes meanwhile is still led to it; where it listens no more, he is refused.

``sessionAffinity`` is not felt: all clients have one address here. That each goes anywhere is harder to bear.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.deploy.pods.strict import Manifest, only

HEARD_AFTER_S = 2.0
CHUNK_BYTES = 1 << 16
RESET = struct.pack("ii", 1, 0)


class Endpoint(Protocol):
    """A pod as a Service sees it."""

    ip: str
    labels: dict[str, str]
    ready: bool
    withdrawn_from_s: float
    """When (monotonic) nobody is led to it any more; infinity while it is not to end."""

    def port(self, name: str | int) -> int: ...


def addresses() -> Callable[[], str]:
    """Fresh addresses of this machine, from a block that no other test run is likely to use."""
    block = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"
    taken = iter(range(1, 255))
    return lambda: f"{block}.{next(taken)}"


@dataclass(slots=True)
class Service:
    """One Service of the namespace."""

    manifest: Manifest
    ip: str
    endpoints: Callable[[], list[Endpoint]]
    servers: list[asyncio.Server] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        only(
            f"Service {self.name}",
            self.manifest["spec"],
            ("selector", "ports", "clusterIP", "publishNotReadyAddresses"),
            ("type", "sessionAffinity", "internalTrafficPolicy", "ipFamilyPolicy", "trafficDistribution"),
        )
        for port in self.ports:
            only(
                f"a port of Service {self.name}",
                port,
                ("name", "port", "targetPort"),
                ("protocol", "appProtocol", "nodePort"),
            )

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def ports(self) -> list[Manifest]:
        return list(self.manifest["spec"].get("ports", []))

    @property
    def is_headless(self) -> bool:
        return bool(self.manifest["spec"].get("clusterIP") == "None")

    def url(self, port: str | int | None = None) -> str:
        """Where its (first, or named) port is reached."""
        wanted = [one for one in self.ports if port is None or port in (one.get("name"), one["port"])]
        return f"http://{self.ip}:{wanted[0]['port']}"

    def names(self, namespace: str) -> list[str]:
        """Its names within the cluster."""
        return [self.name, *(f"{self.name}.{namespace}{end}" for end in ("", ".svc", ".svc.cluster.local"))]

    def links(self) -> dict[str, str]:
        """The variables of a pod that has service links."""
        if self.is_headless or not self.ports:
            return {}
        prefix, port = self.name.upper().replace("-", "_"), self.ports[0]["port"]
        return {
            f"{prefix}_SERVICE_HOST": self.ip,
            f"{prefix}_SERVICE_PORT": str(port),
            f"{prefix}_PORT": f"tcp://{self.ip}:{port}",
        }

    def pods(self) -> list[Endpoint]:
        """Where a new connection may be led to now."""
        selector = self.manifest["spec"]["selector"].items()
        unready = bool(self.manifest["spec"].get("publishNotReadyAddresses"))
        now_s = time.monotonic()
        return [
            pod
            for pod in self.endpoints()
            if selector <= pod.labels.items()
            # One that is to end stays an endpoint until everybody has heard of it, whatever its probe says.
            and (pod.ready or unready or pod.withdrawn_from_s < float("inf"))
            and now_s < pod.withdrawn_from_s
        ]

    async def open(self) -> None:
        """Listen on each of its ports."""
        if self.is_headless:
            return
        for port in self.ports:
            lead = _Lead(self, port.get("targetPort", port["port"]))
            self.servers.append(await asyncio.start_server(lead, self.ip, port["port"]))

    async def forward(self, ip: str, port: int) -> None:
        """Listen there, too, as `kubectl port-forward` does for its first port."""
        lead = _Lead(self, self.ports[0].get("targetPort", self.ports[0]["port"]))
        self.servers.append(await asyncio.start_server(lead, ip, port))

    async def close(self) -> None:
        """Listen no more."""
        for server in self.servers:
            server.close()


class _Lead:
    """Leads connections of one port."""

    def __init__(self, service: Service, target: str | int) -> None:
        self._service, self._target = service, target
        self._leading: set[asyncio.Task[None]] = set()

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._lead(reader, writer))
        self._leading.add(task)  # Nobody else holds it.
        task.add_done_callback(self._leading.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            pods = self._service.pods()
            if not pods:
                return
            pod = self._service._random.choice(pods)
            from_pod, there = await asyncio.open_connection(pod.ip, pod.port(self._target))
            await asyncio.gather(_pass_on(reader, there), _pass_on(from_pod, writer))
            await _closed(writer)
        except OSError:
            pass  # Refused, or cut off: so is the client.
        finally:
            for each in (writer, there):
                if each is not None and not each.is_closing():
                    _reset(each)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    plug: Any = writer.get_extra_info("socket")
    if plug is not None:
        with contextlib.suppress(OSError):
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


class Network:
    """The loop that Services listen on, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="services", daemon=True)
        self._thread.start()

    def call(self, coroutine: Any) -> None:
        """Run it there, and wait for its end."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def close(self) -> None:
        """End every connection, and the thread."""
        self.call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
