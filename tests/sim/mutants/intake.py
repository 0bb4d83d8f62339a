"""Faults in what comes into a lane (lanes.md rules 18 to 23)."""

from __future__ import annotations

from typing import Any

from millstream.core import origin
from millstream.core.intake import seen
from millstream.execute.local.executor import LocalExecutor
from millstream.lane import lane as lane_lane
from millstream.lane.input import sources, subscriptions
from millstream.model.commands import NoteGap
from millstream.model.ids import lane_of_source
from tests.sim.mutants.mutant import Mutant, Patch


def _open_sources_silently(patch: Patch) -> None:
    async def look_at(self: Any, topic: str, known: Any, tasks: Any) -> bool:
        spec = await self._log.topic(topic)
        for partition in range(spec.partitions):
            mine = lane_of_source(topic, partition, self._place.lanes) == self._place.lane
            if mine and (topic, partition) not in self._readers:
                row = self._durable.positions.get((topic, partition))
                start = row.offset if row is not None else 0
                self._readers[topic, partition] = tasks.create_task(self._read(topic, partition, start))
        return True

    patch.set(subscriptions.Subscriptions, "_look_at", look_at)


def _remember_no_ids(patch: Patch) -> None:
    patch.set(seen, "remember", lambda tables, fact: None)


def _random_run_ids(patch: Patch) -> None:
    real = origin.run_id
    numbers = iter(range(1 << 60))

    def run_id(event_ms: int, internal_id: str, function: str, cause: str, *, lane: int, lanes: int) -> str:
        return real(event_ms, internal_id + str(next(numbers)), function, cause, lane=lane, lanes=lanes)

    patch.set(origin, "run_id", run_id)


def _stop_on_poison(patch: Patch) -> None:
    class Never(Exception):
        """What nobody raises."""

    patch.set(sources, "Corruption", Never)


def _ignore_the_catalogue_stamp(patch: Patch) -> None:
    async def at(self: Any, offset: int) -> None:
        """Nobody waits."""

    patch.set(sources.Intake, "_wait_for_catalogue", at)


def _lose_what_has_no_code(patch: Patch) -> None:
    real = LocalExecutor._make_body

    def make_body(self: Any, effect: Any, ended: Any) -> Any:
        return None if effect.function not in self._functions else real(self, effect, ended)

    patch.set(LocalExecutor, "_make_body", make_body)


def _skip_gaps_silently(patch: Patch) -> None:
    real = lane_lane.Lane.submit

    def submit(self: Any, command: Any) -> None:
        if not isinstance(command, NoteGap):
            real(self, command)

    patch.set(lane_lane.Lane, "submit", submit)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("open sources silently", "18", _open_sources_silently),
    Mutant("pass over lost records silently", "18", _skip_gaps_silently),
    Mutant("remember no ids", "19", _remember_no_ids),
    Mutant("give runs random ids", "20", _random_run_ids),
    Mutant("stop on a poison record", "22", _stop_on_poison),
    Mutant("ignore the catalogue stamp", "23", _ignore_the_catalogue_stamp),
    Mutant("lose runs that have no code here", "23", _lose_what_has_no_code),
)
