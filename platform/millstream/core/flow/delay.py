"""An event with a time in the future: its start is kept until then, before any gate counts or queues it.

It is kept where the event was read, in the order of reading: of those that are due at one time the first goes first.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from millstream.core.flow.kinds import AdmitGate
from millstream.core.flow.verdicts import onward
from millstream.core.origin import Origin
from millstream.core.tables import Tables
from millstream.model.facts import Fact, StartKept
from millstream.model.gates.messages import AdmitStart

NAME: Final = "delay"


def place_here(tables: Tables, origin: Origin, run: str) -> str:
    """A place of this lane for a start; places are in the order in which the events were read."""
    return f"{tables.place.lane:04x}/{NAME}/{origin.partition:06d}-{origin.offset:020d}/{run}/"


def decide(tables: Tables, start: AdmitStart, place: str, now_ms: int) -> list[Fact]:
    """Whether its time has come."""
    if start.at_ms <= now_ms:
        return [onward(tables, replace(start, at_ms=0))]
    return [StartKept(place, start, now_ms, start.at_ms)]


DELAY: Final = AdmitGate(name=NAME, places=lambda function, event: (), decide=decide)
