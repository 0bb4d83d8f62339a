"""Brokers of another release than the one that everything else runs on (deploy/kafka/pom.xml pins that one).

Its jars come from Maven like the others. Where they cannot be had the test is skipped, in CI too: a release that a
mirror does not have yet says nothing about millstream.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream.log.port import Produced, TransactionRefused
from tests.kafka.broker import SCRIPT, own_broker
from tests.kafka.logs import Member, group_topics, opened, read_upto, settings_for, until, values

NEXT = "4.4.0"
CHOSEN = {"KAFKA_VERSION": NEXT, "KAFKA_JARS": ""}  # A folder of jars that was given is of the pinned release.


async def test_a_broker_of_the_next_release_serves_appends_transactions_and_groups(tmp_path: Path) -> None:
    _skip_without_jars()
    with own_broker(tmp_path, 1, **CHOSEN) as broker:
        assert broker.folder is not None
        assert f"Kafka version: {NEXT}" in (broker.folder / "node1.log").read_text()
        settings = settings_for(broker)
        async with opened(settings) as log, opened(settings) as other:
            group = await group_topics(log, settings)
            journal, inbox, steps = f"{group}.journal", f"{group}.inbox", f"{group}.steps"
            assert await log.writer(journal, 0).append(values("a", "b")) == 0
            assert [r.value for r in await read_upto(log.reader(journal, 0, 0), 2)] == [b"a", b"b"]

            first, second = Member(log, group), Member(other, group)
            await first.join()
            assert first.held == {0, 1, 2, 3}
            await log.writer(inbox, 0).append(values("message"))
            assert [r.value for r in await read_upto(first.membership.reader(inbox, 0, 0), 1)] == [b"message"]
            checkpoint = await log.transaction(f"{group}-0")
            await checkpoint.send(steps, 0, [Produced(b"row", b"key")])
            await checkpoint.commit({0: 1})
            assert [r.value for r in await read_upto(log.reader(steps, 0, 0), 1)] == [b"row"]

            stale = await log.transaction(f"{group}-1")
            await stale.send(steps, 1, [Produced(b"row", b"key")])
            await second.join()
            await until(lambda: len(first.held) == len(second.held) == 2)
            with pytest.raises(TransactionRefused):  # It was begun as a member of another day.
                await stale.commit(dict.fromkeys(second.held, 0))


def _skip_without_jars() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import jars; jars.kafka_jars()"],
        cwd=SCRIPT.parent,
        env={**os.environ, **CHOSEN},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        pytest.skip(f"no Kafka {NEXT}: {ran.stderr.strip().splitlines()[-1]}")
