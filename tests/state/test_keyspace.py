"""Does the key space list exactly the tables of the core, with keys that rows can give?"""

from __future__ import annotations

import typing

from millstream.core.tables import Tables
from millstream.model.place import Place
from millstream.model.rows import Row
from millstream.state.keyspace import BY_PREFIX, KEYSPACE
from millstream.state.memory import MemoryStore
from millstream.state.tables import LaneTables
from tests.state.rows import ONE_OF_EACH


def declared() -> dict[str, tuple[object, object]]:
    """What the core's protocol says: table name → (key type, row type)."""
    found: dict[str, tuple[object, object]] = {}
    for name, member in vars(Tables).items():
        if isinstance(member, property) and name not in ("place", "memo"):
            found[name] = typing.get_args(typing.get_type_hints(member.fget)["return"])
    return found


def test_every_table_of_the_core_is_in_the_key_space_with_its_row() -> None:
    assert {spec.name: spec.row for spec in KEYSPACE} == {name: row for name, (_, row) in declared().items()}


def test_the_kinds_of_a_key_are_those_the_core_declares() -> None:
    for spec in KEYSPACE:
        key = declared()[spec.name][0]
        assert (typing.get_args(key) or (key,)) == spec.kinds, spec.name


def test_every_row_class_has_one_table_and_every_table_its_own_prefix() -> None:
    assert sorted(spec.row.__name__ for spec in KEYSPACE) == sorted(row.__name__ for row in typing.get_args(Row))
    assert len(BY_PREFIX) == len(KEYSPACE)


def test_a_row_gives_its_key() -> None:
    for spec in KEYSPACE:
        assert spec.encode()(spec.key_of()(ONE_OF_EACH[spec.name])).startswith(spec.prefix)


def test_only_the_index_of_seen_ids_is_derived() -> None:
    assert [spec.name for spec in KEYSPACE if spec.derived] == ["seen"]


def test_lane_tables_and_their_durable_view_are_what_the_core_asks_for() -> None:
    tables = LaneTables(Place("g", 0, 8), MemoryStore())
    views: list[Tables] = [tables, tables.durable]
    for view in views:
        assert view.place.lane == 0
        assert [getattr(view, spec.name).scan(limit=1) for spec in KEYSPACE] == [[]] * len(KEYSPACE)
