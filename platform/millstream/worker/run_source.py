"""What a lane shows its executors of its runs, and where their reports go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from millstream.core.tables import Tables
from millstream.execute.port import RunView
from millstream.model.commands import Command, LoseDispatch, ParkDispatch, Report, Unpark
from millstream.model.effects import CodeWanted
from millstream.model.rows import StepRow


class LaneRunSource:
    """What a lane shows its executors: durable rows only (``execute.port.RunSource``); nothing once it was let go."""

    def __init__(self, tables: Tables, submit: Callable[[Command], None], now_ms: Callable[[], int]) -> None:
        self._tables: Tables | None = tables
        self.now_ms = now_ms
        self.report: Callable[[Report], None] = submit
        """Queue a report."""
        self.park: Callable[[ParkDispatch], None] = submit
        """Queue that there is no code for a dispatch."""
        self.lose: Callable[[LoseDispatch], None] = submit
        """Queue that what ran a dispatch has died."""
        self.unpark: Callable[[Unpark], None] = submit
        """Queue that there is code again."""

    def view(self, run: str) -> RunView | None:
        """The run as recorded; None when it is over."""
        tables = self._tables
        row = tables.runs.get(run) if tables is not None else None
        if tables is None or row is None:
            return None
        held = [tables.events.get(event) for event in row.events]
        events = tuple([e.event for e in held if e is not None])
        if not row.steps:
            return RunView(row, events, ())
        steps = [tables.steps.get((run, step)) for step in row.steps]
        return RunView(row, events, tuple([s for s in steps if s is not None]))

    def step(self, run: str, step: str) -> StepRow | None:
        """One step as recorded."""
        return self._tables.steps.get((run, step)) if self._tables is not None else None

    def parked_of(self, function: str, behind: tuple[str, str], limit: int) -> Sequence[CodeWanted]:
        """Parked dispatches of a function, as recorded."""
        if self._tables is None:
            return ()
        run, step = behind
        start = (function, run, f"{step}\x00" if run else "")
        rows = [row for _, row in self._tables.parked.scan(start, limit=limit) if row.function == function]
        return [CodeWanted(row.run, row.function, row.step, row.dispatch) for row in rows]

    def leave(self, submit: Callable[[Command], None]) -> None:
        """The lane is another worker's: its tables are closed, and reports go to ``submit`` from now on."""
        self._tables = None
        self.report = self.park = self.lose = self.unpark = submit
