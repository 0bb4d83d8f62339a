"""How many events a second each sender may send: beyond it a post is answered 429 with Retry-After.

A sender is an event key; where the server has no keys anybody writes any, so there it is the client's address.

A virtual-scheduling token bucket (GCRA, ITU-T I.371): one number a key says when its bucket would be empty again. A
post of many events is taken whole or refused whole; one larger than the burst is taken when the bucket is full, else
nobody could send it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from millstream.errors import TooMany

BURST_S: Final = 10
SENDERS_MAX: Final = 10_000
"""More that are not at rest share one quota."""
OTHERS: Final = ""
IPV6_PREFIX: Final = 64


class Quota:
    """Events a second for each sender; ``per_s`` 0: as many as they like. ``clock`` gives seconds."""

    __slots__ = ("_clock", "_full_at_s", "_per_s", "_swept_at_s")

    def __init__(self, per_s: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._full_at_s: dict[str, float] = {}
        self._swept_at_s = 0.0

    def take(self, sender: str, events: int) -> None:
        """Count the events of a post in. Raises TooMany when the sender has sent too many."""
        if not self._per_s:
            return
        now_s = self._clock()
        if sender not in self._full_at_s and len(self._full_at_s) >= SENDERS_MAX:
            if now_s > self._swept_at_s + 1:
                self._swept_at_s = now_s
                self._full_at_s = {one: at for one, at in self._full_at_s.items() if at > now_s}
            sender = OTHERS if len(self._full_at_s) >= SENDERS_MAX else sender
        full_at_s = max(self._full_at_s.get(sender, 0.0), now_s)
        cost_s = events / self._per_s
        wait_s = full_at_s + min(cost_s, BURST_S) - BURST_S - now_s
        if wait_s > 0:
            raise TooMany(
                f"this event key (without keys: this client) may send {self._per_s} events a second (in bursts of up "
                f"to {BURST_S * self._per_s}); a post of {events} more was refused and nothing of it was stored. "
                f"Send it again in {wait_s:.1f} s.",
                retry_after_s=int(wait_s) + 1,
            )
        self._full_at_s[sender] = full_at_s + cost_s


def client_of(address: str | None) -> str:
    """A client by its address. Who has one IPv6 address has all of its /64."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or "unknown"
    if ip.version == 4:
        return str(ip)
    return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
