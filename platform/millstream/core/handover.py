"""A lane that changes hands in good order: who still runs what of it (lanes.md rule 25).

    owner lets go ──LaneReleased(out)──> row of a holder ──HolderGone──> no row
                                              │
                                              └ while it is there, its hand-outs are not lost: the holder reports them

A holder is a worker under the fence it owned the lane by, so that a worker which owned the lane twice is two. When it
says that it runs nothing more, or the lane takes its silence for that (``lane/ownership/previous_owners.py``), the
row goes; what was then not reported is lost in the usual way, each by a ``LoseDispatch`` of its own, before the row
goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.handles import Handler, Handles, fold_nothing
from millstream.core.tables import Tables
from millstream.model.commands import ReleaseLane, StillRunning
from millstream.model.effects import Effect
from millstream.model.facts import Fact, HolderGone, LaneFenced, LaneReleased
from millstream.model.rows import HolderRow


def release(tables: Tables, command: ReleaseLane, now_ms: int) -> list[Fact]:
    """The owner lets go."""
    return [LaneReleased(command.worker, command.holder, command.out)]


def on_heartbeat(tables: Tables, command: StillRunning, now_ms: int) -> list[Fact]:
    """A holder is alive: nothing to record, until it runs nothing more."""
    if command.left or tables.holders.get(command.holder) is None:
        return []
    return [HolderGone(command.holder)]


def lane_released(tables: Tables, f: LaneReleased, at_ms: int) -> Sequence[Effect]:
    """What it still runs is remembered; an owner that runs nothing leaves no trace."""
    if f.out:
        tables.holders.put(f.holder, HolderRow(f.holder, f.worker, f.out))
    return ()


def holder_gone(tables: Tables, f: HolderGone, at_ms: int) -> Sequence[Effect]:
    """It is forgotten."""
    tables.holders.delete(f.holder)
    return ()


HANDLES = Handles(
    commands={ReleaseLane: Handler(release), StillRunning: Handler(on_heartbeat)},
    facts={LaneFenced: fold_nothing, LaneReleased: lane_released, HolderGone: holder_gone},
)
