"""What the index answers with, and what it is asked: runs, events, notices; filters and pages."""

from __future__ import annotations

import msgspec

from millstream.history import trail


class RunSeen(msgspec.Struct, frozen=True):
    """A run as the index knows it. Times in Unix ms, 0 where not yet; ``error`` and ``result`` are JSON or empty.

    Where ``result_bytes`` is not 0, ``result`` is the beginning of so many. ``state`` says more of one that is Running
    (``trail.STATES``); of all others it is the status. ``reason`` says how the code of a
    Parked one has changed, or with what a Held one has failed.
    """

    n: int
    run: str
    function: str
    app: str
    function_name: str
    status: str
    queued_ms: int
    started_ms: int
    ended_ms: int
    event: str
    event_name: str
    cause: str
    error: bytes
    result: bytes
    result_bytes: int = 0
    state: str = ""
    reason: str = ""


class RunInFull(msgspec.Struct, frozen=True):
    """A run with all event ids, and its steps with their attempts; not ``complete``: the steps are left out.

    ``errors_cut`` errors of attempts are left out. ``gates``: where it has stood (``core/flow``).
    """

    run: RunSeen
    events: tuple[str, ...]
    steps: list[trail.StepSeen]
    complete: bool = True
    errors_cut: int = 0
    gates: tuple[trail.GateSeen, ...] = ()


class EventSeen(msgspec.Struct, frozen=True):
    """An event received. ``data``, ``user``, ``meta`` are JSON; ``topic`` is empty for those a lane made itself.

    Where ``cut_bytes`` is not 0, that is how long the three are together, and the beginning of ``data`` is all of them.
    """

    n: int
    internal_id: str
    id: str
    name: str
    ts_ms: int
    received_ms: int
    topic: str
    partition: int
    offset: int
    key: str
    v: str
    user: bytes
    meta: bytes
    data: bytes
    cut_bytes: int = 0


class NoticeSeen(msgspec.Struct, frozen=True):
    """Why an event started nothing, or why a command was refused."""

    kind: str
    at_ms: int
    function: str
    reason: str


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs. Empty means any; times are when the run was queued, from (incl.) to (excl.).

    ``statuses`` of ``fold.STATUSES``; ``states`` are words of ``trail.STATES`` that say more than Running. A run of any
    of either fits.
    """

    statuses: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    function: str = ""
    app: str = ""
    event: str = ""
    event_name: str = ""
    from_ms: int = 0
    to_ms: int = 0


class Page(msgspec.Struct, frozen=True):
    """``cursor``: what to ask the next page with; 0: this was the last one."""

    limit: int = 50
    cursor: int = 0
