"""Messages to a lane: from an api, which waits for the answer, or from another lane, numbered and taken exactly once.

    a lane sends      Post ─> MessageSent ─> outbox row, effect Deliver ─> the inbox there, MessagesDelivered ─> no row
    a lane receives   TakeMessage with the next number ─> MessageTaken beside what the message led to

A message is decided by the lane that is its home. One that comes to another lane is forwarded there, as it is.

Add a message: its class in ``model/commands.py`` and a name of it in ``LaneMessage`` (where lanes send it) or
``Request`` (where apis do), one ``MessageKind`` in the module of its noun, and its line in ``nouns.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from millstream.core.handles import Decide, Handler, Handles, Refuse
from millstream.core.requests import answer, answered
from millstream.core.tables import Tables
from millstream.model.commands import LaneMessage, NoteDelivered, TakeMessage
from millstream.model.effects import Deliver, Effect
from millstream.model.facts import CommandRefused, Fact, MessagesDelivered, MessageSent, MessageTaken, Post
from millstream.model.rows import InboxCursorRow, OutboxCursorRow, OutboxRow


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKind:
    """One kind of message.

    ``decide``    at its home, where it was not answered before.
    ``home``      the lane that decides it; None: whichever lane it comes to.
    ``answers``   whether an api waits: its id is remembered with the answer, and a refusal is answered, too.
    ``remains``   what else remains of one that raised.
    """

    message: type
    decide: Decide
    home: Callable[[Tables, Any], int] | None = None
    answers: bool = True
    remains: Refuse | None = None

    def receive(self, tables: Tables, message: Any, now_ms: int) -> list[Fact]:
        """Forward it, answer it once more, or decide it."""
        home = self.home(tables, message) if self.home is not None else tables.place.lane
        if home != tables.place.lane:
            return [Post(home, message)]
        if self.answers and (again := answered(tables, message)) is not None:
            return again
        return self.decide(tables, message, now_ms)

    def refuse(self, tables: Tables, message: Any, reason: str, now_ms: int) -> list[Fact]:
        """What remains of one that raised: whoever waits is told."""
        refused: list[Fact] = []
        if self.answers:
            refused += answer(message, {"status": "refused", "reason": reason})
        if self.remains is not None:
            return [*self.remains(tables, message, reason, now_ms), *refused]
        return [CommandRefused(type(message).__name__, "", reason), *refused]

    @property
    def handles(self) -> Handles:
        """As a command that comes from an api."""
        return Handles(commands={self.message: Handler(self.receive, self.refuse)})


MESSAGES: Final[dict[type, MessageKind]] = {}


def add(kind: MessageKind) -> None:
    """Register a kind of message."""
    assert kind.message not in MESSAGES, f"two kinds of the message {kind.message.__name__}"
    assert kind.home is None or kind.message in get_args(LaneMessage), f"lanes cannot send {kind.message.__name__}"
    MESSAGES[kind.message] = kind


def sent(tables: Tables, post: Post) -> MessageSent:
    """The fact that a message goes to another lane, under the next number."""
    cursor = tables.outbox_cursors.get(post.to_lane)
    return MessageSent(post.to_lane, (cursor.sent if cursor is not None else 0) + 1, post.message)


def take_message(tables: Tables, command: TakeMessage, now_ms: int) -> list[Fact]:
    """Take exactly the next message of a lane; a repeated one is ignored, one too early comes again."""
    cursor = tables.inbox_cursors.get(command.from_lane)
    if command.seq != (cursor.taken if cursor is not None else 0) + 1:
        return []
    decided = MESSAGES[type(command.message)].receive(tables, command.message, now_ms)
    return [MessageTaken(command.from_lane, command.seq), *decided]


def refuse_message(tables: Tables, command: TakeMessage, reason: str, now_ms: int) -> list[Fact]:
    """What remains of one that raised: it counts as taken, or those behind it would wait for ever."""
    taken = MessageTaken(command.from_lane, command.seq)
    kind = MESSAGES.get(type(command.message))
    if kind is None:
        return [taken, CommandRefused("TakeMessage", "", reason)]
    return [taken, *kind.refuse(tables, command.message, reason, now_ms)]


def note_delivered(tables: Tables, command: NoteDelivered, now_ms: int) -> list[Fact]:
    """Messages are durable in the other lane's inbox."""
    cursor = tables.outbox_cursors.get(command.to_lane)
    if cursor is None or command.upto <= cursor.delivered:
        return []
    return [MessagesDelivered(command.to_lane, min(command.upto, cursor.sent))]


# --- fold -----------------------------------------------------------------------------------------


def message_sent(tables: Tables, f: MessageSent, at_ms: int) -> Sequence[Effect]:
    """A message is owed to another lane."""
    cursor = tables.outbox_cursors.get(f.to_lane)
    sent, delivered = (cursor.sent, cursor.delivered) if cursor is not None else (0, 0)
    assert f.seq == sent + 1, f"message {f.seq} to lane {f.to_lane} behind {sent}: numbers have no holes"
    tables.outbox_cursors.put(f.to_lane, OutboxCursorRow(f.to_lane, f.seq, delivered))
    tables.outbox.put((f.to_lane, f.seq), OutboxRow(f.to_lane, f.seq, f.message))
    return (Deliver(f.to_lane, f.seq),)


def messages_delivered(tables: Tables, f: MessagesDelivered, at_ms: int) -> Sequence[Effect]:
    """Messages have arrived."""
    cursor = tables.outbox_cursors.get(f.to_lane)
    assert cursor is not None and f.upto <= cursor.sent, f"delivered {f.upto} to lane {f.to_lane}, never sent"
    for seq in range(cursor.delivered + 1, f.upto + 1):
        tables.outbox.delete((f.to_lane, seq))
    tables.outbox_cursors.put(f.to_lane, OutboxCursorRow(f.to_lane, cursor.sent, f.upto))
    return ()


def message_taken(tables: Tables, f: MessageTaken, at_ms: int) -> Sequence[Effect]:
    """A message of another lane was taken."""
    cursor = tables.inbox_cursors.get(f.from_lane)
    taken = cursor.taken if cursor is not None else 0
    assert f.seq == taken + 1, f"message {f.seq} of lane {f.from_lane} taken behind {taken}: expected the next"
    tables.inbox_cursors.put(f.from_lane, InboxCursorRow(f.from_lane, f.seq))
    return ()


HANDLES = Handles(
    commands={
        TakeMessage: Handler(take_message, refuse_message),
        NoteDelivered: Handler(note_delivered),
    },
    facts={MessageSent: message_sent, MessagesDelivered: messages_delivered, MessageTaken: message_taken},
)
