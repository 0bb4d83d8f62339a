"""What goes wrong in one world, and how often: drawn from the seed, so that some worlds are calm and some are hell.

``SimFaults`` is asked by the memory log for every append and transaction, and by ``sim_log.py`` for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from millstream.log.memory.faults import NO_ROOM, REFUSED, Fate, Verdict

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances are per append, read, write or report; times in virtual seconds."""

    slow_s: float
    unknown: float
    refused: float
    odd_offset: float
    reads: float
    busy: float
    reports: float
    crashes: float  # a minute
    steals: float
    moves: float
    jumps: float
    outages: float
    torn: bool
    parts: bool
    late: float
    wrong: float
    freezes: float  # a minute, as those before
    broken: float
    deleted: float
    forgetful: bool  # Tombstones go early.
    commits: float  # Of offsets of the group, beside the journal's positions.
    edits: float  # A minute: code that asks for other steps when it is gone over again.
    full: float  # Disks, a minute.
    flips: float  # Of a byte on a disk, a minute.
    no_room: float  # A write of a store.
    no_files: float  # A read of a store.

    @classmethod
    def draw(cls, rng: Random, kafka: Random, commits: Random, edits: Random, disks: Random) -> Weather:
        """All but ``rng`` draw what came later, so that older seeds have the worlds they had."""

        def some(chance: float, low: float, high: float, rng: Random = rng) -> float:
            return rng.uniform(low, high) if rng.random() < chance else 0.0

        return cls(
            slow_s=some(0.6, 0.0, 0.2),
            unknown=some(0.6, 0.0, 0.08),
            refused=some(0.4, 0.0, 0.08),
            odd_offset=some(0.4, 0.0, 0.08),
            reads=some(0.2, 0.0, 0.01),
            busy=some(0.3, 0.0, 0.3),
            reports=some(0.4, 0.0, 0.3),
            crashes=some(0.7, 1, 12),
            steals=some(0.5, 1, 12),
            moves=some(0.4, 1, 6),
            jumps=some(0.3, 1, 8),
            outages=some(0.3, 1, 4),
            torn=rng.random() < 0.4,
            parts=rng.random() < 0.3,
            late=some(0.25, 0.0, 0.03, kafka),
            wrong=some(0.25, 0.0, 0.05, kafka),
            freezes=some(0.4, 1, 8, kafka),
            broken=some(0.25, 1, 10, kafka),
            deleted=some(0.2, 1, 6, kafka),
            forgetful=kafka.random() < 0.3,
            commits=some(0.4, 0.0, 0.5, commits),
            edits=some(0.15, 1, 8, edits),
            full=some(0.2, 1, 6, disks),
            flips=some(0.2, 1, 12, disks),
            no_room=some(0.2, 0.0, 0.2, disks),
            no_files=some(0.15, 0.0, 0.005, disks),
        )


class SimFaults:
    """The verdicts of one world. ``calm`` ends all of it."""

    def __init__(
        self, weather: Weather, rng: Random, kafka: Random, commits: Random, disks: Random, *, chaos: Random
    ) -> None:
        self._weather = weather
        self._chaos = chaos
        self._rng = rng
        self._kafka = kafka
        self._commits = commits
        self._disks = disks
        self.full: set[str] = set()
        """Machines whose disk is full, for their stores and their log."""
        self.calm = True
        self.outage = False
        self.readable = False
        """Whether stores can be read whatever befalls them: by checks."""

    def on_append(self, client: str, topic: str, partition: int) -> Verdict:
        rng, weather = self._rng, self._weather
        if self.calm or client == "observer":
            return Verdict(written_after_s=0.001, answered_after_s=0.001)
        if self.outage:
            return REFUSED
        if client in self.full:
            return NO_ROOM
        written_s = rng.random() * weather.slow_s
        answered_s = written_s + rng.random() * weather.slow_s * 0.5
        roll = rng.random()
        if roll < weather.unknown:
            return self._unknown(written_s, answered_s)
        roll -= weather.unknown
        if roll < weather.refused:
            return Verdict(fate=Fate.REFUSED, written_after_s=None, answered_after_s=answered_s)
        roll -= weather.refused
        fate = Fate.WITHOUT_OFFSET if roll < weather.odd_offset else Fate.ACKNOWLEDGED
        if weather.wrong and self._kafka.random() < weather.wrong:
            fate = Fate.WRONG_OFFSET
        if weather.late and self._kafka.random() < weather.late:
            # It takes so long that the lane may have another owner by then, whose fence lies before it, or behind.
            written_s += self._kafka.random() ** 2 * 5
            answered_s = written_s + self._kafka.random() ** 2 * 5
        return Verdict(fate=fate, written_after_s=written_s, answered_after_s=answered_s)

    def _unknown(self, written_s: float, answered_s: float) -> Verdict:
        rng = self._rng
        outlives = rng.random() < 0.5
        match rng.randrange(3):
            case 0:
                return Verdict(fate=Fate.UNKNOWN, written_after_s=None, answered_after_s=answered_s)
            case 1:
                return Verdict(fate=Fate.UNKNOWN, written_after_s=written_s, answered_after_s=answered_s)
            case _:  # It turns up when nobody expects it any more.
                late_s = answered_s + rng.random() ** 2 * 3
                return Verdict(
                    fate=Fate.UNKNOWN, written_after_s=late_s, answered_after_s=answered_s, outlives_writer=outlives
                )

    def on_transaction(self, client: str, name: str) -> Verdict:
        rng, weather = self._rng, self._weather
        if self.calm:
            return Verdict(written_after_s=0.001, answered_after_s=0.001)
        if self.outage:
            return REFUSED
        if client in self.full:
            return NO_ROOM
        written_s = rng.random() * weather.slow_s
        answered_s = written_s + rng.random() * weather.slow_s
        roll = rng.random()
        if roll < weather.unknown:
            written = written_s if rng.random() < 0.5 else None
            return Verdict(fate=Fate.UNKNOWN, written_after_s=written, answered_after_s=answered_s)
        if roll < weather.unknown + weather.refused:
            return REFUSED
        return Verdict(written_after_s=written_s, answered_after_s=answered_s)

    def survives_crash(self, client: str, topic: str, partition: int, records: int) -> int:
        """All or nothing; of a decision in several parts, maybe only the first ones have left the process."""
        if records > 1 and topic.endswith(".journal"):
            records = self._chaos.randint(1, records)
        return records if self._rng.random() < 0.5 else 0

    def read_fails(self) -> bool:
        if self.calm:
            return False
        return (self.outage and self._rng.random() < 0.1) or self._rng.random() < self._weather.reads

    def commit_takes_s(self) -> float:
        """How long the group takes for offsets: 0 where it does so at once, as in worlds that know no such weather."""
        chance = 0.0 if self.calm else self._weather.commits
        return self._commits.random() if chance and self._commits.random() < chance else 0.0

    def commit_fails(self) -> bool:
        if self.calm or not self._weather.commits:
            return False
        return self.outage or self._commits.random() < self._weather.commits

    def store_busy(self) -> bool:
        return not self.calm and self._rng.random() < self._weather.busy

    def store_has_no_room(self, machine: str) -> bool:
        if self.calm:
            return False
        chance = self._weather.no_room
        return machine in self.full or bool(chance and self._disks.random() < chance)

    def store_has_no_files(self) -> bool:
        chance = 0.0 if self.calm or self.readable else self._weather.no_files
        return bool(chance and self._disks.random() < chance)

    def report_fate(self) -> tuple[float, ...]:
        """When a report arrives: a delay for each time it does."""
        rng = self._rng
        if self.calm or rng.random() >= self._weather.reports:
            return (0.0,)
        match rng.randrange(4):
            case 0:
                return (0.0, 0.0)
            case 1:
                return (0.0, rng.random() * 3)
            case 2:
                return (rng.random() * 2,)
            case _:
                return (rng.random(), rng.random() * 5)
