"""An event as a handler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from millstream.model.event import Envelope
from millstream.sdk.payloads import Reader, decode, read

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=dict[str, Any])
else:
    from typing import TypeVar

    T = TypeVar("T")


class Received(msgspec.Struct, Generic[T], frozen=True):
    """An event as a handler sees it: ``data`` decoded, ``id`` and ``ts`` (Unix milliseconds) always there.

    ``on`` is the place of the condition that it met, in ``wait_for_any`` and ``wait_for_all``.
    """

    name: str
    data: T
    id: str
    ts: int
    key: str = ""
    user: Mapping[str, object] | None = None
    v: str | None = None
    meta: Mapping[str, object] | None = None
    on: int = 0


def received(event: Envelope, reader: Reader | None) -> Received[Any]:
    """The event that started a run. Raises NonRetriableError where its data does not fit the reader's type."""
    return Received(
        event.name,
        read(event.data, reader, f"the data of event {event.name!r}"),
        event.id,
        event.ts_ms,
        event.key,
        cast("Mapping[str, object] | None", decode(event.user)) if event.user else None,
        event.v or None,
        cast("Mapping[str, object] | None", decode(event.meta)) if event.meta else None,
    )


class _Recorded(msgspec.Struct, frozen=True):
    """An event as the result of a wait holds it."""

    name: str
    data: msgspec.Raw
    id: str
    ts: int
    key: str = ""
    user: dict[str, object] | None = None
    v: str | None = None
    meta: dict[str, object] | None = None


_RECORDED = msgspec.json.Decoder(_Recorded)


def recorded(data: bytes, reader: Reader | None, on: int = 0) -> Received[Any]:
    """The event in the result of a wait. Raises NonRetriableError where its data does not fit the reader's type."""
    event = _RECORDED.decode(data)
    payload = read(bytes(event.data), reader, f"the data of event {event.name!r}")
    return Received(event.name, payload, event.id, event.ts, event.key, event.user, event.v, event.meta, on)
