"""Fencing: a worker makes itself the owner of a lane's journal, with the group's consent (lanes.md rules 3 to 6).

    the group says the lane is ours, and takes a commit in our name
      ─> append a fence with a fresh random owner
      ─> fold everything valid below the fence
      ─> ours

Met a newer fence: the same again after a short random wait, as long as the group still says so; else ``NotOwned``.
"""

from __future__ import annotations

from millstream.errors import LogUnavailable, MillstreamError
from millstream.lane.journal import Journal, Refused, Void
from millstream.lane.ownership.restore import Reached, fold_upto
from millstream.lane.parts import LaneParts
from millstream.model.messages import group_topic
from millstream.state.tables import LaneTables


class NotOwned(MillstreamError):
    """The group gave the lane to another worker."""


async def take_over(parts: LaneParts, tables: LaneTables, journal: Journal, reached: Reached) -> tuple[Reached, int]:
    """Make the lane ours. Raises NotOwned.

    Returns how far its tables are then, at the fence, and by how many milliseconds our clock differs from the log's.
    """
    place = parts.place
    inbox = (group_topic(place.group, "inbox"), place.lane)
    while True:
        held = tables.durable.positions.get(inbox)
        owner = parts.surroundings.entropy(8)
        try:
            if not await parts.membership.still_owns(place.lane, inbox_position=held.offset if held is not None else 0):
                raise NotOwned(f"lane {place.lane} belongs to another worker now.")
            own_ms = parts.surroundings.now_ms()
            fence = await journal.fence(parts.worker, owner, max(own_ms, reached.at_ms))
        except (Void, Refused, LogUnavailable):
            await wait_a_little(parts)
            continue
        reached = await fold_upto(parts.log, tables, reached, fence.offset + 1, lambda facts, left: None)
        if reached.validity.owner == owner:
            journal.own(owner, fence.offset)
            return reached, abs(fence.at_ms - own_ms)
        await wait_a_little(parts)


async def wait_a_little(parts: LaneParts) -> None:
    """A random while, so that two workers who both believe they own a lane don't fence in step."""
    settings = parts.settings
    spread_ms = settings.fence_wait_max_ms - settings.fence_wait_min_ms
    await parts.surroundings.sleep((settings.fence_wait_min_ms + spread_ms * parts.surroundings.chance()) / 1000)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is no group: what stopped one task has cancelled the others."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
