"""The journal's records as bytes, and which of them count.

``encode_record``/``decode_record`` are ``schemas/journal/record.avsc``. They are on the path of every decision
(about 0.7 µs a fact written, 1.5 read), so they are the compiled codecs of ``compiled_avro.py``; a fact's class is the
number of its branch in the schema.

``encode_parts`` cuts a decision that is too large for one append; ``Validity`` puts the parts together
again and drops what lost the race for the lane: several owners may have written to one journal.

Add a fact: its class in ``model/facts/``, its branch at the *end* of the schema; here only if
it has a class inside that no other fact has.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final, get_args

import msgspec

from millstream.errors import Corruption
from millstream.model import limits
from millstream.model.commands import HandOut, LaneMessage
from millstream.model.event import Envelope
from millstream.model.facts import FACTS, Fact, LaneFenced
from millstream.model.gates.declared import RunFlow, Slot
from millstream.model.journal import JournalRecord, Position
from millstream.model.operations import Failure
from millstream.model.waits.awaited import Awaited, AwaitedEvent
from millstream.wire.compiled_avro import CompiledCodec
from millstream.wire.reference_avro import corrupt
from millstream.wire.schemas import load_schema


def journal_codec(schema: Any, facts: Iterable[type[Any]]) -> CompiledCodec[JournalRecord]:
    """The codec of records with these facts, by a parsed schema that has a branch for each of them."""
    parts = (
        Position,
        Envelope,
        HandOut,
        Failure,
        RunFlow,
        Slot,
        AwaitedEvent,
        *get_args(Awaited),
        *get_args(LaneMessage),
    )
    kinds = (JournalRecord, *parts, *facts)
    return CompiledCodec(schema, {"Header": tuple, **{kind.__name__: kind for kind in kinds}})


_RECORD = journal_codec(load_schema("journal/record"), FACTS)
FORMAT_MAX: Final = 1
"""The highest record format that this version reads."""
_OWNER_LENGTH: Final = 16
"""The first byte of every record, as Avro writes it: its owner has 8 bytes."""
PARTS_MAX: Final = 1_000
"""Parts of one decision; at the usual size of a part that is half a gigabyte."""


def encode_record(record: JournalRecord) -> bytes:
    """The bytes of one record. Deterministic: equal records have equal bytes."""
    return _RECORD.encode(record)


def encode_facts(facts: Iterable[Fact]) -> bytes:
    """The bytes that facts have in a record. Raises what ``CompiledCodec.encode`` raises on what is no such fact."""
    return encode_record(JournalRecord(b"", 0, 0, tuple(facts), ()))


def decode_record(data: bytes) -> JournalRecord:
    """The record that the bytes hold; equals what was encoded, tuples and all.

    Raises Corruption on bytes that are not exactly one record, or one of a format this version does not know.
    """
    record = _RECORD.decode(data, "journal record")
    if not 1 <= record.format <= FORMAT_MAX:
        raise corrupt("journal record", data, f"record format {record.format} (this version knows 1 to {FORMAT_MAX})")
    return record


def decode_if_ours(data: bytes | None) -> JournalRecord | None:
    """As ``decode_record``; None where somebody else has written the value: it does not begin like a record of ours.

    Whoever reads a journal passes such a value over (``Validity.pass_over``) and says so: it must not end a lane for
    good. A topic is not ours alone; a producer, or a step that publishes, may have been given its name.
    """
    if not data or data[0] != _OWNER_LENGTH:
        return None
    return decode_record(data)


def encode_parts(record: JournalRecord, bytes_target: int = limits.RECORD_BYTES_TARGET) -> list[bytes]:
    """A decision as the records to append, in order: one as a rule, more where it is too large.

    A part has at most RECORD_FACTS_MAX facts and, unless one fact alone is larger, at most ``bytes_target`` bytes.
    The parts have ``record.seq``, ``record.seq`` + 1 and so on; all but the last say ``more`` and carry no positions.
    """
    assert not record.more, "only whole decisions are cut into parts"
    if len(record.facts) <= limits.RECORD_FACTS_MAX:
        encoded = encode_record(record)
        if len(encoded) <= bytes_target or len(record.facts) <= 1:
            return [encoded]
    groups = _groups(record, bytes_target)
    parts = []
    for n, facts in enumerate(groups):
        last = n == len(groups) - 1
        positions = record.positions if last else ()
        part = msgspec.structs.replace(record, seq=record.seq + n, facts=facts, positions=positions, more=not last)
        parts.append(encode_record(part))
    return parts


def _groups(record: JournalRecord, bytes_target: int) -> list[tuple[Fact, ...]]:
    """The facts in order, in groups that fit; each is counted with the positions, though only the last has them."""
    # A seq that grows by the number of parts may take more bytes: count with the largest it can become.
    frame = msgspec.structs.replace(record, seq=record.seq + len(record.facts), facts=(), more=True)
    # An array costs a count of up to 4 bytes; the frame has 1 for the empty one.
    empty_bytes = len(encode_record(frame)) + 4
    groups: list[tuple[Fact, ...]] = []
    group: list[Fact] = []
    group_bytes = empty_bytes
    for fact in record.facts:
        alone = msgspec.structs.replace(frame, facts=(fact,))
        fact_bytes = len(encode_record(alone)) - empty_bytes + 4
        if group and (group_bytes + fact_bytes > bytes_target or len(group) == limits.RECORD_FACTS_MAX):
            groups.append(tuple(group))
            group, group_bytes = [], empty_bytes
        group.append(fact)
        group_bytes += fact_bytes
    groups.append(tuple(group))
    return groups


class Validity:
    """Which records of a journal count (lanes.md rule 1): fed with every record in offset order, gives the valid ones.

        no owner ──fence──> owner, seq 0 ──next seq──> owner, seq + 1 ── ...
            ^                    │
            └──── a gap ─────────┘          any fence, at any time: its owner, seq 0

    A *fence* is a record with seq 0 whose first fact is LaneFenced. A record counts if its owner is the latest fence's
    and its seq is the next one; one seen before (an append that was repeated) is passed over. After a gap nothing of
    that owner counts any more: what follows was decided on top of what is missing.

    Parts (``more``) are held back until their last one; parts without it are void, they were never acted on (rule 21).

    To go on later, at the offset behind a record that ``take`` gave: ``Validity(v.owner, v.seq)``. ``owner`` is empty
    while nobody's records count. Restore, history and verifier all use this one class.
    """

    def __init__(self, owner: bytes = b"", seq: int = -1) -> None:
        self.owner = owner
        self.seq = seq
        self._parts: list[JournalRecord] = []
        self._passed_over = False

    def pass_over(self) -> None:
        """A value that somebody else has written lies here. If it were ours, the next record would show a gap."""
        self._passed_over = True

    @property
    def parts_held(self) -> int:
        """How many parts wait for their last one. Not 0: this is no place to go on from later."""
        return len(self._parts)

    def take(self, record: JournalRecord) -> JournalRecord | None:
        """The complete record that ends with this one, or None where it is void, repeated or a part.

        A record joined of parts has all their facts, and seq, time and positions of the last. Raises Corruption where
        a decision has more than PARTS_MAX parts, or where a record is missing and one that is not ours is in its place.
        """
        if record.seq == 0 and record.facts and type(record.facts[0]) is LaneFenced and record.owner != self.owner:
            self.owner = record.owner
            self._parts.clear()
        elif record.owner != self.owner or record.seq <= self.seq:
            return None  # Another owner's, or a repeated append.
        elif record.seq != self.seq + 1:
            if self._passed_over:
                raise Corruption(
                    f"journal record {self.seq + 1} of owner {self.owner.hex()} is missing, and a value that is none "
                    "of ours lies in its place: the record was damaged. Compare the journal with a replica."
                )
            self._lose_owner()
            return None
        self._passed_over = False
        self.seq = record.seq
        if record.more:
            self._hold(record)
            return None
        return self._joined(record) if self._parts else record

    def _lose_owner(self) -> None:
        self.owner = b""
        self.seq = -1
        self._parts.clear()

    def _hold(self, part: JournalRecord) -> None:
        if len(self._parts) == PARTS_MAX:
            raise Corruption(
                f"journal record {part.seq} of owner {part.owner.hex()} is part {PARTS_MAX + 1} of one decision: "
                f"expected at most {PARTS_MAX}. The journal was not written by this software; compare with a replica."
            )
        self._parts.append(part)

    def _joined(self, last: JournalRecord) -> JournalRecord:
        facts = tuple(chain.from_iterable(part.facts for part in (*self._parts, last)))
        self._parts.clear()
        return msgspec.structs.replace(last, facts=facts)
