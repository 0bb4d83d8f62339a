"""Where calls may lead: not into private networks, unless the operator says so.

Whoever may register an app, or write a step that fetches, names an address that this server then asks. On a server with
neighbours that trust it (a metadata service, a database's port) that is a way in. So in production only addresses of
the public internet are called, and the networks that the operator has named. Names are looked up first: what is judged
is the address that the connection is made to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from millstream.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ANYWHERE: Final = "*"
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(OSError):
    """A host whose addresses may not be called."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The networks that may be called beside the public internet; ``is_open``: any."""

    networks: tuple[Network, ...] = ()
    is_open: bool = False

    @staticmethod
    def of(texts: Iterable[str]) -> Guard:
        """The guard of networks like ``10.0.0.0/8``; ``*`` opens it. Raises ConfigError."""
        networks: list[Network] = []
        for text in texts:
            if text == ANYWHERE:
                return Guard(is_open=True)
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise ConfigError(
                    f"a network that apps may be in was refused: expected 10.0.0.0/8, fd00::/8 or *, got {text!r:.80}: "
                    f"{error}."
                ) from error
        return Guard(tuple(networks))

    def refuses(self, address: str) -> str:
        """Why this address may not be called; "": it may. A name is not judged, but its addresses are."""
        if self.is_open:
            return ""
        try:
            ip = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            return ""
        if _is_public(ip):
            return ""
        if any(ip in network for network in self.networks):
            return ""
        return (
            f"the address {ip} is not of the public internet, and this server calls no others. Allow its network with "
            "--endpoint-network, if what is there may be called"
        )


def _is_public(ip: Address) -> bool:
    """Whether it is of the public internet, as far as that is given away; the rest may lead anywhere one day."""
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False))


def _unwrapped(ip: Address) -> Address:
    """The address that packets to this one end at."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
