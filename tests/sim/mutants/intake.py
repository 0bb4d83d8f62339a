"""Faults in what comes into a lane (lanes.md rules 18 to 23)."""

from __future__ import annotations

from typing import Any

from penstock.core import events as core_events
from penstock.core import seen
from penstock.execute.local import LocalExecutor
from penstock.lane import lane as lane_lane
from penstock.lane import sources
from tests.sim.mutants.mutant import Mutant, Patch


def _open_sources_silently(patch: Patch) -> None:
    real = lane_lane.Lane.submit

    def submit(self: Any, command: Any) -> None:
        if not isinstance(command, lane_lane.OpenSource):
            real(self, command)

    patch.set(lane_lane.Lane, "submit", submit)


def _remember_no_ids(patch: Patch) -> None:
    patch.set(seen, "remember", lambda tables, fact: None)


def _random_run_ids(patch: Patch) -> None:
    real = core_events.run_id
    numbers = iter(range(1 << 60))

    def run_id(event_ms: int, internal_id: str, function: str, cause: str, *, lane: int, lanes: int) -> str:
        return real(event_ms, internal_id + str(next(numbers)), function, cause, lane=lane, lanes=lanes)

    patch.set(core_events, "run_id", run_id)


def _stop_on_poison(patch: Patch) -> None:
    class Never(Exception):
        """What nobody raises."""

    patch.set(sources, "Corruption", Never)


def _ignore_the_catalogue_stamp(patch: Patch) -> None:
    async def at(self: Any, offset: int) -> None:
        """Nobody waits."""

    patch.set(sources.Intake, "_catalogue_at", at)


def _lose_what_has_no_code(patch: Patch) -> None:
    real = LocalExecutor._enter

    def enter(self: Any, effect: Any, ended: Any) -> Any:
        return None if effect.function not in self._functions else real(self, effect, ended)

    patch.set(LocalExecutor, "_enter", enter)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("open sources silently", "18", _open_sources_silently),
    Mutant("remember no ids", "19", _remember_no_ids),
    Mutant("give runs random ids", "20", _random_run_ids),
    Mutant("stop on a poison record", "22", _stop_on_poison),
    Mutant("ignore the catalogue stamp", "23", _ignore_the_catalogue_stamp),
    Mutant("lose runs that have no code here", "23", _lose_what_has_no_code),
)
