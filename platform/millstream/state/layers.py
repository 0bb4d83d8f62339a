"""One table in three layers, and the hot path of the whole engine: ``get``, ``put``, ``delete``.

    in flight   put by ``fold`` since the record that is being appended was begun; void if that append is
    overlay     acknowledged, not yet in the store; ``frozen`` is the part of it that a flush is writing now
    store       the rest

What the core sees is one dictionary, ``_live``: the newest of all layers, with None for a deleted row. ``get`` *is*
that dictionary's ``__getitem__``, so that a row in memory costs one C call (0.05 µs); a key it lacks goes to
``__missing__``, which looks into the store. The layers below only say which of its entries are in flight, which must be
flushed, and which may be forgotten:

    put ──> live + in flight ──promote──> overlay ──freeze──> frozen ──on_flushed──> clean (in live and in the store)
                    └──drop──> live takes what the layers below hold

Rules it keeps: a row is replaced, never changed. ``_live`` holds every key that any layer holds. ``_absent`` holds
only keys that the store certainly lacks; with it, a row that comes and goes between two flushes leaves nothing behind.
Memory is bounded by the overlay plus ``CLEAN_ROWS_MAX`` clean rows plus ``ABSENT_KEYS_MAX`` keys a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from operator import attrgetter, itemgetter
from typing import Final, Generic, TypeVar, cast

from millstream.errors import Corruption, InternalError
from millstream.model.rows import Row
from millstream.state.keys import Key
from millstream.state.keyspace import TableSpec
from millstream.state.live import GroupedLive, Live
from millstream.state.store import Store
from millstream.wire.rows import decode_row

CLEAN_ROWS_MAX: Final = 10_000
"""Rows of a table kept in memory though the store has them: open runs are read again soon after a flush."""
ABSENT_KEYS_MAX: Final = 100_000
CLEAN_PAYLOAD_BYTES_MAX: Final = 4_096
"""A row with a larger payload is read again from the store rather than kept."""
SCAN_PAGE_ROWS: Final = 1_000
"""Rows asked of the store at once in a scan."""
_GENERATION: Final = CLEAN_ROWS_MAX // 2

K = TypeVar("K", bound=Key)
R = TypeVar("R", bound=Row)
_by_key: Final = itemgetter(0)


class LayeredTable(Generic[K, R]):
    """A table of a lane; the core's ``Table``."""

    __slots__ = (
        "_absent",
        "_clean",
        "_clean_before",
        "_end",
        "_gone",
        "_live",
        "_payload",
        "_range",
        "_store",
        "add",
        "encode",
        "flight",
        "frozen",
        "frozen_absent",
        "get",
        "history_unknown",
        "key_of",
        "overlay",
        "put",
        "spec",
        "version",
    )

    get: Callable[[K], R | None]
    """The row of a key, or None. The newest, in flight or not."""
    put: Callable[[K, R], None]
    """Set the row of a key, in flight."""
    add: Callable[[K, R], None]
    """Set the row of a key that certainly has none: neither in a layer nor in the store.

    As ``put``, but a row that is added and deleted between two flushes costs the store nothing, not even a look.
    """

    def __init__(self, spec: TableSpec, store: Store) -> None:
        self.spec = spec
        self.version = 0
        # The topics may hold keys that this store never held (``state/flush.py``): then no deletion is forgotten.
        self.history_unknown = False
        self.flight: dict[K, R | None] = {}
        self.overlay: dict[K, R | None] = {}
        self.frozen: dict[K, R | None] = {}
        self.frozen_absent: set[K] = set()  # keys of ``frozen`` that the store lacked when it was frozen
        self._payload = attrgetter(spec.payload) if spec.payload else None
        self._live: Live[K, R] = GroupedLive(self._load) if spec.grouped else Live(self._load)
        self._gone: list[K] = []  # deleted in flight
        self._absent: set[K] = set()
        self._clean: dict[K, None] = {}
        self._clean_before: dict[K, None] = {}
        self._store = store
        self._end = spec.end
        self.encode = cast("Callable[[K], bytes]", spec.encode())
        self.key_of = cast("Callable[[R], K]", spec.key_of())
        self._range = spec.range_of_group() if spec.grouped else None
        self.get = self._live.__getitem__
        self.put, self.add = self._writers()

    # --- what the core does ---------------------------------------------------------------------

    def _writers(self) -> tuple[Callable[[K, R], None], Callable[[K, R], None]]:
        """``put`` and ``add`` as closures: they are called ten times a run, and each attribute of self costs a look."""
        live, flight = self._live, self.flight

        def put(key: K, row: R, /) -> None:
            live[key] = flight[key] = row

        def add(key: K, row: R, /) -> None:
            if key not in live:  # Else its deletion may still be on the way to the store, which has it.
                self._absent.add(key)
            live[key] = flight[key] = row

        if not self.spec.versioned:
            return put, add

        def put_versioned(key: K, row: R, /) -> None:
            put(key, row)
            self.version += 1

        return put_versioned, put_versioned

    def delete(self, key: K, /) -> None:
        """Remove the row of a key, in flight; nothing if there is none."""
        self._live[key] = self.flight[key] = None
        self._gone.append(key)
        if self.spec.versioned:
            self.version += 1

    def scan(self, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """The first ``limit`` rows with key ≥ ``start`` in key order. O(rows not yet flushed + limit)."""
        return self._merge((self.frozen, self.overlay, self.flight), start, limit)

    def within(self, group: str, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """As ``scan``, of the rows whose key begins with ``group``. O(rows of the group in memory + limit).

        For tables that are ``grouped`` only.
        """
        live = self._grouped()
        return self._merge_group(group, {key: live[key] for key in live.groups.get(group, ())}, start, limit)

    # --- the same without what is in flight -----------------------------------------------------

    def get_durable(self, key: K) -> R | None:
        """The row of a key as acknowledged records left it."""
        if key not in self.flight:
            return self._live[key]
        if key in self.overlay:
            return self.overlay[key]
        if key in self.frozen:
            return self.frozen[key]
        raw = self._store.get(self.encode(key))
        return None if raw is None else self._row(raw)

    def scan_durable(self, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """As ``scan``, of what acknowledged records left."""
        return self._merge((self.frozen, self.overlay), start, limit)

    def within_durable(self, group: str, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """As ``within``, of what acknowledged records left."""
        keys = self._grouped().groups.get(group, ())
        above: dict[K, R | None] = {}
        for layer in (self.frozen, self.overlay):
            above.update((key, layer[key]) for key in keys if key in layer)
        return self._merge_group(group, above, start, limit)

    # --- the life of a layer --------------------------------------------------------------------

    def promote(self) -> None:
        """The record in flight is acknowledged."""
        flight, overlay = self.flight, self.overlay
        overlay.update(flight)
        if self._gone:
            if not self.history_unknown:
                absent, frozen, live = self._absent, self.frozen, self._live
                for key in absent.intersection(self._gone):
                    # Neither the store nor a flush under way holds it: forget that it ever was.
                    if flight[key] is None and key not in frozen:
                        del overlay[key], live[key]
                        absent.discard(key)  # It would stay until the next flush, and most rows come and go.
            self._gone.clear()
        flight.clear()
        self.version += 1  # For values derived from the durable view.

    def drop(self) -> None:
        """The record in flight is void: back to what lies below."""
        live = self._live
        for key in self.flight:
            if key in self.overlay:
                live[key] = self.overlay[key]
            elif key in self.frozen:
                live[key] = self.frozen[key]
            else:
                del live[key]  # The store has the row, or there is none.
        self.flight.clear()
        self._gone.clear()
        self.version += 1

    def freeze(self) -> None:
        """A flush begins: what is acknowledged now is what it writes; later promotes gather in a new overlay."""
        assert not self.frozen, f"table {self.spec.name}: a flush began before the last one had ended"
        self.frozen, self.overlay = self.overlay, {}
        self.frozen_absent, self._absent = self._absent, set()

    def thaw(self) -> None:
        """The flush failed: its rows return to the overlay, for the next flush."""
        self.frozen.update(self.overlay)
        self.overlay, self.frozen = self.frozen, {}
        self.frozen_absent = set()

    def on_flushed(self) -> list[K]:
        """The flush is in the store: frozen rows become clean. Returns the keys to drop from memory, see ``forget``."""
        written, self.frozen = self.frozen, {}
        self.frozen_absent = set()
        keys = list(written)
        kept = {key: None for key in keys[-_GENERATION:] if self._worth_keeping(written[key])}
        self._turn_generation(kept)
        return [key for key in keys if key not in kept]

    def forget(self, keys: Iterable[K]) -> None:
        """Keys that the store knows as well: drop them from memory unless they changed again."""
        live, flight, overlay, frozen = self._live, self.flight, self.overlay, self.frozen
        for key in keys:
            if key not in overlay and key not in flight and key not in frozen:
                live.pop(key, None)

    # --- inside ---------------------------------------------------------------------------------

    def _load(self, key: K) -> R | None:
        absent = self._absent
        if key in absent:
            return None
        raw = self._store.get(self.encode(key))
        if raw is None:
            if len(absent) < ABSENT_KEYS_MAX:
                absent.add(key)
            return None
        row = self._row(raw)
        if not self._worth_keeping(row):
            return row
        self._live[key] = row
        if len(self._clean) >= _GENERATION:
            self._turn_generation({})
        self._clean[key] = None
        return row

    def _worth_keeping(self, row: R | None) -> bool:
        return row is not None and (self._payload is None or len(self._payload(row)) <= CLEAN_PAYLOAD_BYTES_MAX)

    def _turn_generation(self, young: dict[K, None]) -> None:
        old, self._clean_before, self._clean = self._clean_before, self._clean, young
        self.forget(key for key in old if key not in self._clean_before and key not in young)

    def _row(self, raw: bytes) -> R:
        try:
            return cast("R", decode_row(self.spec.row, raw))
        except Corruption as error:
            raise self._store.condemn(f"a row of table {self.spec.name} cannot be read: {error}") from error

    def _merge(self, layers: tuple[dict[K, R | None], ...], start: K | None, limit: int) -> list[tuple[K, R]]:
        if limit < 1:
            raise InternalError(f"table {self.spec.name}: expected a scan of at least 1 row, got limit={limit}")
        above: dict[K, R | None] = {}
        for layer in layers:  # The newest last: it wins.
            if layer:
                above.update(layer if start is None else {k: row for k, row in layer.items() if k >= start})  # type: ignore[operator]
        found = [(key, row) for key, row in above.items() if row is not None]
        if len(found) > 2 * limit:
            found = nsmallest(limit, found, key=_by_key)
        found += self._scan_store(above, self.spec.prefix if start is None else self.encode(start), self._end, limit)
        found.sort(key=_by_key)
        return found[:limit]

    def _grouped(self) -> GroupedLive[K, R]:
        if not isinstance(self._live, GroupedLive):
            raise InternalError(f"table {self.spec.name}: its key space does not say that it is grouped")
        return self._live

    def _merge_group(self, group: str, above: dict[K, R | None], start: K | None, limit: int) -> list[tuple[K, R]]:
        assert self._range is not None, "it is grouped"
        at, end = self._range(group)
        found = [(k, row) for k, row in above.items() if row is not None and (start is None or k >= start)]  # type: ignore[operator]
        found += self._scan_store(above, at if start is None else self.encode(start), end, limit)
        found.sort(key=_by_key)
        return found[:limit]

    def _scan_store(self, above: dict[K, R | None], at: bytes, end: bytes, limit: int) -> list[tuple[K, R]]:
        """The first ``limit`` stored rows from ``at`` to before ``end`` that no layer covers."""
        found: list[tuple[K, R]] = []
        ask = min(limit, SCAN_PAGE_ROWS)
        while True:
            page = self._store.scan(at, end, ask)
            for _, raw in page:
                row = self._row(raw)
                key = self.key_of(row)  # Half the price of reading it out of the key's bytes.
                if key not in above:
                    found.append((key, row))
                    if len(found) == limit:
                        return found
            if len(page) < ask:
                return found
            at = page[-1][0] + b"\x00"
            ask = SCAN_PAGE_ROWS


class DurableTable(Generic[K, R]):
    """A read view of one table that sees nothing in flight; for executors and apis."""

    __slots__ = ("_table", "get")

    get: Callable[[K], R | None]
    """The row of a key as acknowledged records left it."""

    def __init__(self, table: LayeredTable[K, R]) -> None:
        self._table = table
        self.get = table.get_durable

    def scan(self, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """As the table's ``scan``, of what acknowledged records left."""
        return self._table.scan_durable(start, limit=limit)

    def within(self, group: str, start: K | None = None, *, limit: int) -> list[tuple[K, R]]:
        """As the table's ``within``, of what acknowledged records left."""
        return self._table.within_durable(group, start, limit=limit)

    @property
    def version(self) -> int:
        """As the table's: it may change more often than what this view shows."""
        return self._table.version

    def put(self, key: K, row: R, /) -> None:
        """Never: only ``fold`` writes."""
        raise self._refused()

    def add(self, key: K, row: R, /) -> None:
        """Never: only ``fold`` writes."""
        raise self._refused()

    def delete(self, key: K, /) -> None:
        """Never: only ``fold`` writes."""
        raise self._refused()

    def _refused(self) -> InternalError:
        return InternalError(f"the durable view of table {self._table.spec.name!r} was written to; only folds write")
