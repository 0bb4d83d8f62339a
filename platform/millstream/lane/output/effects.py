"""Carrying out effects, once the record that they follow from is durable (lanes.md rule 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from millstream.execute.port import Executor
from millstream.lane.output.outbox import Outbox
from millstream.lane.output.timers import Timers
from millstream.model.commands import Command, Unpark
from millstream.model.effects import (
    Abandon,
    Answer,
    Arm,
    CodeWanted,
    Deliver,
    Disarm,
    Effect,
    Execute,
    Publish,
    Scan,
)


class Effects:
    """Brings each effect to whom it is for. ``offset`` is the journal offset of the last record."""

    def __init__(
        self,
        executor: Executor,
        timers: Timers,
        outbox: Outbox,
        submit: Callable[[Command], None],
        offset: Callable[[], int],
    ) -> None:
        self._executor = executor
        self._timers = timers
        self._outbox = outbox
        self._submit = submit
        self._offset = offset
        self.scan: Callable[[Scan], None] = lambda effect: None
        """Who reads for scans; the lane says so."""

    def release(self, effects: Iterable[Effect]) -> None:
        """The effects of one record; the two frequent kinds without a call."""
        start, arm = self._executor.start, self._timers.arm
        for effect in effects:
            kind = type(effect)
            if kind is Execute:
                start(effect)  # type: ignore[arg-type]
            elif kind is Arm:
                arm(effect.at_ms, effect.kind, effect.id, effect.step)  # type: ignore[union-attr]
            else:
                self.release_one(effect)

    def release_one(self, effect: Effect) -> None:
        """Any effect."""
        match effect:
            case Execute():
                self._executor.start(effect)
            case Arm():
                self._timers.arm(effect.at_ms, effect.kind, effect.id, effect.step)
            case Disarm():
                pass  # It fires into nothing: its row is gone. Searching the heap for it would cost more.
            case Abandon():
                self._executor.abandon(effect.run)
            case Deliver():
                self._outbox.deliver(effect)
            case Publish():
                self._outbox.publish(effect)
            case Answer():
                self._outbox.answer(effect, self._offset())
            case Scan():
                self.scan(effect)
            case CodeWanted():
                if self._executor.takes_up(effect):
                    self._submit(Unpark(effect.run, effect.step, effect.dispatch))
