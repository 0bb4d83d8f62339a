"""What keeps a lane from taking anything in: its local store, or its log, cannot be written or read now.

    no room, no descriptors, no permission ──begin──> takes nothing in ──passed──> goes on by itself
                                             │ said once                 │ said once
                                             └── gauge 1, the door answers 503 (one machine)

What the lane has taken already goes on in memory, as far as it needs neither; what was refused is tried again after
pauses that grow. The object outlives the lane, which may be closed and opened many times before it passes
(``worker/``), so that each trouble is said once and not at every try.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from millstream.errors import Corruption, OperatorError, StoreDamaged, StoreUnavailable
from millstream.lane.port import Surroundings
from millstream.lane.settings import LaneSettings
from millstream.model.backoff import doubling_s
from millstream.telemetry import Telemetry, say

LOG: Final = logging.getLogger("millstream.lane")
AGAIN_S_MAX: Final = 5.0
APPENDS: Final = "append"
FLUSHES: Final = "flush"
READS: Final = "read"
OPENS: Final = "open"
ALL: Final = (APPENDS, FLUSHES, READS, OPENS)


class Lived(Protocol):
    """What the troubles need of a lane's parts."""

    @property
    def settings(self) -> LaneSettings: ...

    @property
    def surroundings(self) -> Surroundings: ...


class Trouble:
    """The troubles of one lane now, each by what is refused: APPENDS to the log; FLUSHES, READS, OPENS of the store.

    ``on_passed`` is called when one of them has passed.
    """

    def __init__(self, lane: int, telemetry: Telemetry) -> None:
        self._lane = lane
        self._telemetry = telemetry
        self._now: dict[str, str] = {}
        self.on_passed: Callable[[], None] = lambda: None
        for what in ALL:
            telemetry.set("millstream_storage_refused", 0, str(lane), what)

    @property
    def why(self) -> str:
        """Why nothing is taken in; "" where all is well."""
        return next(iter(self._now.values()), "")

    def begin(self, what: str, why: str) -> None:
        """It was refused. Said once, until it has passed."""
        if what not in self._now:
            say(LOG, "storage refused", level=logging.ERROR, lane=self._lane, what=what, why=why)
            self._telemetry.set("millstream_storage_refused", 1, str(self._lane), what)
        self._now[what] = why

    def passed(self, what: str) -> None:
        """It was done again."""
        if self._now and self._now.pop(what, None) is not None:
            say(LOG, "storage goes on", lane=self._lane, what=what)
            self._telemetry.set("millstream_storage_refused", 0, str(self._lane), what)
            self.on_passed()

    def forget(self) -> None:
        """The lane is another's now, and so are its troubles."""
        for what in ALL:
            self._telemetry.forget("millstream_storage_refused", str(self._lane), what)
        self._now.clear()

    async def wait(self, lived: Lived, what: str, error: Exception) -> None:
        """It was refused: return when it is to be tried again."""
        self.begin(what, str(error))
        await lived.surroundings.sleep(lived.settings.retry_refused_ms / 1000)

    async def tend(self, lived: Lived, what: str, tend: Callable[[], Awaitable[None]]) -> None:
        """Do what is due, for ever. What the log or the store refuses is tried again, after pauses that grow."""
        every_s, failures = lived.settings.housekeeping_ms / 1000, 0
        while True:
            await lived.surroundings.sleep(max(every_s, doubling_s(every_s, failures, AGAIN_S_MAX) if failures else 0))
            try:
                await tend()
            except (Corruption, StoreDamaged):
                raise
            except StoreUnavailable as error:
                failures += 1
                self.begin(what, str(error))
            except OperatorError as error:
                failures += 1
                say(LOG, "upkeep failed", level=logging.WARNING, lane=self._lane, why=str(error), failures=failures)
            else:
                failures = 0
                self.passed(what)
