"""The group of a memory cluster: the owner of each lane, what each member knows of it, and transactions fenced by it.

The group knows the truth; a member knows its assignment as of its last **poll**. Between the two lies every zombie.
Each lane has an **epoch** that changes whenever it moves, so a lane that went away and came back is another one: a
transaction begun before is refused (kafka.md: metadata taken when the checkpoint began).

    spread       until the first ``assign``: lanes go evenly to the members, by name, at every join and leave
    assign       hand over with notice: losers are revoked first and still own, then the lanes move to the winners
    steal        without notice: the lane moves, the winner is assigned, the loser finds out at its next poll
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from millstream.errors import LogUnavailable
from millstream.log.port import LanesChanged, Reader

Held = Mapping[int, int]
"""Lane → epoch, as a member knew it at some moment."""


class GroupMember:
    """One process in the group."""

    def __init__(self, group: MemoryGroup, client: str, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        self.client = client
        self.known_epochs: dict[int, int] = {}
        self.gone = False
        self._group = group
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked

    async def poll(self) -> None:
        """Learn what changed: first what is lost, then what is new."""
        if self.gone:
            return
        truth = self._group.held_by(self)
        lost = frozenset(lane for lane, epoch in self.known_epochs.items() if truth.get(lane) != epoch)
        await self.revoke(lost)
        new = {lane: epoch for lane, epoch in truth.items() if self.known_epochs.get(lane) != epoch}
        self.known_epochs |= new
        if new:
            await self._on_assigned(frozenset(new))

    async def revoke(self, lanes: frozenset[int]) -> None:
        """Tell the process that these are no longer (or, with notice, soon no longer) its own."""
        lost = lanes & self.known_epochs.keys()
        if not lost:
            return
        if not self.gone:
            await self._on_revoked(lost)
        for lane in lost:
            self.known_epochs.pop(lane, None)


class MemoryGroup:
    """The truth about the lanes of one group."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.positions: dict[int, int] = {}
        self.committed: dict[tuple[str, int], int] = {}
        self._members: dict[str, GroupMember] = {}
        self._wanted: dict[int, str] = {}
        self._epochs = dict.fromkeys(range(lanes), 0)
        self._by_hand = False

    def has(self, member: GroupMember) -> bool:
        """Whether it is a member now."""
        return not member.gone and self._members.get(member.client) is member

    def held_by(self, member: GroupMember) -> dict[int, int]:
        """What the member truly holds now."""
        if not self.has(member):
            return {}
        return {lane: self._epochs[lane] for lane, client in self._wanted.items() if client == member.client}

    def lanes_of(self, client: str) -> frozenset[int]:
        """The lanes that a client holds now, whether it knows of them or not."""
        member = self._members.get(client)
        return frozenset() if member is None else frozenset(self.held_by(member))

    def lanes_known_to(self, client: str) -> frozenset[int]:
        """The lanes that a client held at its last poll."""
        member = self._members.get(client)
        return frozenset() if member is None else frozenset(member.known_epochs)

    def still_held(self, member: GroupMember, held: Held, lanes: Iterable[int]) -> bool:
        """Whether the lanes are the member's and have been all the time since ``held`` was true."""
        truth = self.held_by(member)
        return all(lane in held and truth.get(lane) == held[lane] for lane in lanes)

    async def join(self, member: GroupMember) -> None:
        """Take a member in; an earlier one of the same client is out, and does not know it."""
        self._members[member.client] = member
        for lane, client in self._wanted.items():
            if client == member.client:
                self._epochs[lane] += 1
        await self._spread()
        await member.poll()

    async def leave(self, member: GroupMember) -> None:
        """A member goes and says so: it lets go of its lanes, then others may have them."""
        if member.gone:
            return
        await member.revoke(frozenset(member.known_epochs))
        self.drop(member)
        await self._spread()

    def drop(self, member: GroupMember) -> None:
        """A member is gone without a word."""
        member.gone = True
        if self._members.get(member.client) is member:
            del self._members[member.client]

    async def assign(self, lanes_by_client: Mapping[str, Iterable[int]]) -> None:
        """Hand lanes over with notice. Lanes not named have no owner; a client may join later."""
        self._by_hand = True
        await self._move({lane: client for client, lanes in lanes_by_client.items() for lane in lanes})

    async def steal(self, lane: int, to: str) -> None:
        """Move a lane behind its owner's back."""
        self._by_hand = True
        self._wanted[lane] = to
        self._epochs[lane] += 1
        winner = self._members.get(to)
        if winner is not None:
            await winner.poll()

    async def _spread(self) -> None:
        if self._by_hand:
            return
        clients = sorted(self._members)
        if clients:
            await self._move({lane: clients[lane % len(clients)] for lane in range(self.lanes)})
        else:
            self._wanted.clear()

    async def _move(self, wanted: Mapping[int, str]) -> None:
        unknown = [lane for lane in wanted if not 0 <= lane < self.lanes]
        if unknown:
            raise ValueError(f"the group has lanes 0 to {self.lanes - 1}, got {sorted(unknown)}")
        moved = frozenset(lane for lane in range(self.lanes) if wanted.get(lane) != self._wanted.get(lane))
        members = [self._members[client] for client in sorted(self._members)]
        for member in members:
            await member.revoke(moved & self.held_by(member).keys())
        self._wanted = dict(wanted)
        for lane in moved:
            self._epochs[lane] += 1
        for member in members:
            await member.poll()


class MemoryMembership:
    """A client's membership. See the port's ``Membership``."""

    def __init__(self, group: MemoryGroup, client: str, make_reader: Callable[[str, int, int], Reader]) -> None:
        self.member: GroupMember | None = None
        self.group = group
        self.reader = make_reader
        self._client = client

    @property
    def live(self) -> bool:
        """See the port."""
        return self.member is not None and not self.member.gone

    async def join(self, *, on_assigned: LanesChanged, on_revoked: LanesChanged) -> None:
        """See the port."""
        self.member = GroupMember(self.group, self._client, on_assigned, on_revoked)
        await self.group.join(self.member)

    async def poll(self) -> None:
        """Hear what the group has to say, as a Kafka consumer does at each poll."""
        if self.member is not None:
            await self.member.poll()

    async def still_owns(self, lane: int, *, inbox_position: int) -> bool:
        """See the port: poll, be told the lane, and have the commit accepted."""
        if self.member is None:
            return False
        await self.member.poll()
        if not self.group.still_held(self.member, self.member.known_epochs, (lane,)):
            return False
        self.group.positions[lane] = inbox_position
        return True

    async def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        """See the port. Refused once the process is no member any more, whether it knows that or not."""
        if self.member is None or not self.group.has(self.member):
            raise LogUnavailable("positions were not committed: this process is no member of the group. Join it first.")
        self.group.committed |= positions

    async def leave(self) -> None:
        """See the port."""
        if self.member is not None:
            await self.group.leave(self.member)

    def crash(self) -> None:
        """The process is gone; the group is not told by it."""
        if self.member is not None:
            self.group.drop(self.member)
