"""The list of what each role must be allowed: complete, and no more than that."""

from __future__ import annotations

import shlex

from millstream.log.group_topics import GroupShape, topics_of
from millstream.log.kafka.admin.acls import ROLES, Besides, accesses

SHAPE = GroupShape(group="orders", lanes=8)


def test_every_topic_of_the_group_is_somebodys_to_write() -> None:
    written = {access.name for access in accesses(SHAPE) if "Write" in access.operations}
    assert written >= {spec.name for spec in topics_of(SHAPE)}


def test_nobody_but_the_operator_may_create_or_alter() -> None:
    for access in accesses(SHAPE):
        if access.role != "operator":
            assert not {"Create", "Alter", "AlterConfigs", "All"} & set(access.operations), access


def test_only_a_worker_trims() -> None:
    trims = {(access.role, access.name) for access in accesses(SHAPE) if "Delete" in access.operations}
    assert trims == {("worker", "orders.journal"), ("worker", "orders.inbox")}


def test_other_topics_are_read_and_written_as_they_are_named() -> None:
    found = {
        access.name: set(access.operations)
        for access in accesses(SHAPE, Besides(sources=("payments",), targets=("audit",)))
        if access.role == "worker" and access.name in ("payments", "audit")
    }
    assert found == {"payments": {"Read", "DescribeConfigs"}, "audit": {"Write", "DescribeConfigs"}}


def test_a_command_says_all_of_it() -> None:
    access = next(one for one in accesses(SHAPE) if one.prefixed)
    words = shlex.split(access.command("kafka:9092"))
    assert words[:3] == ["kafka-acls.sh", "--bootstrap-server", "kafka:9092"]
    assert words[words.index("--allow-principal") + 1] == f"User:{access.role}"
    assert words[-2:] == ["--resource-pattern-type", "prefixed"]


def test_roles_are_those_that_have_accesses() -> None:
    assert {access.role for access in accesses(SHAPE)} == set(ROLES)
