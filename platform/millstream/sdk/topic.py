"""``Topic``: an existing topic as a trigger, ``@app.function(on=Topic("payments"))``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.function import SINCE_EARLIEST, SINCE_LATEST, Reading, TopicTrigger
from millstream.model.text.durations import instant_ms
from millstream.model.text.storable import shown

Since = str | datetime | int
_WORDS: Final = {"latest": SINCE_LATEST, "earliest": SINCE_EARLIEST}


@dataclass(frozen=True, slots=True)
class Topic:
    """Every record of a topic starts the function; nothing about the topic or its producers needs to change.

    ``topic``     its name.
    ``schema``    the full name of the records' schema, where the format wants one.
    ``format``    how values are read: ``"auto"`` looks at the record; ``"avro"``, ``"json"``, ``"cloudevents"``,
                  ``"debezium"``, ``"raw"``; ``"envelope"`` are millstream's own events.
    ``name``      the event's name: a text, or a path into the record such as ``"data.type"`` or ``"headers.type"``.
                  Default: the topic's name.
    ``key``       a path. Default: the record's key.
    ``id``        a path; the same id within 24 h on one partition starts nothing. Default: the header
                  ``millstream-id``, else the record's place.
    ``since``     where this function's first subscription begins: ``"latest"``, ``"earliest"``, or the records from a
                  time on (a datetime with a zone, or Unix milliseconds). Later versions go on where it is.

    Raises FunctionError when an option is wrong.
    """

    topic: str
    schema: str = ""
    format: str = "auto"
    name: str = ""
    key: str = ""
    id: str = ""
    since: Since = "latest"

    def __post_init__(self) -> None:
        self.trigger("")

    def trigger(self, expression: str) -> TopicTrigger:
        """The trigger as it is registered."""
        for option in ("topic", "schema", "format", "name", "key", "id"):
            if not isinstance(getattr(self, option), str):
                raise FunctionError(f"Topic refused: {option} must be text, got {getattr(self, option)!r:.80}.")
        reading = Reading(self.format, self.schema, self.name, self.key, self.id)
        return TopicTrigger(self.topic, expression, self._since_ms(), reading)

    def _since_ms(self) -> int:
        since = self.since
        if isinstance(since, str) and since in _WORDS:
            return _WORDS[since]
        if isinstance(since, datetime):
            since = instant_ms(since, f"since of Topic {self.topic!r}")
            return min(max(since, limits.EVENT_TS_MIN_MS), limits.EVENT_TS_MAX_MS)  # No record is older.
        if isinstance(since, int) and not isinstance(since, bool):
            if limits.EVENT_TS_MIN_MS <= since <= limits.EVENT_TS_MAX_MS:
                return since
            in_ms = limits.EVENT_TS_MIN_MS <= since * 1_000 <= limits.EVENT_TS_MAX_MS
            raise FunctionError(
                f"Topic {self.topic!r} refused: since must be Unix milliseconds of the years 1980 to 2099, got "
                f"{shown(since)}.{f' That looks like seconds: write {since * 1_000}.' if in_ms else ''}"
            )
        raise FunctionError(
            f'Topic {self.topic!r} refused: since must be "latest", "earliest", a datetime with a zone or Unix '
            f"milliseconds, got {shown(since)}."
        )
