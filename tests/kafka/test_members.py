"""Several workers on a real group, with both protocols: lanes move in order, and whoever lost one knows it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from millstream.errors import LogUnavailable
from millstream.log.port import Produced, TransactionRefused
from tests.kafka.broker import Broker
from tests.kafka.logs import SOON_S, Member, group_topics, opened, read_upto, settings_for, until, values

PROTOCOLS = ("consumer", "classic")
GOODBYE_WITHIN_S = 20.0
LONG_SESSION_MS = 24_000
"""So long that it cannot be its end that gave a lane back."""
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


@protocols
async def test_members_share_the_lanes_and_a_leaver_gives_its_own_back(kafka: Broker, protocol: str) -> None:
    settings = settings_for(kafka, protocol, session_ms=LONG_SESSION_MS)
    async with opened(settings) as one, opened(settings) as two:
        group = await group_topics(one, settings, session_ms=LONG_SESSION_MS)
        a, b = Member(one, group), Member(two, group)
        await a.join()
        assert a.held == {0, 1, 2, 3}
        await b.join()
        await until(lambda: len(a.held) == len(b.held) == 2)
        assert a.held | b.held == {0, 1, 2, 3}
        for member in (a, b):
            for lane in range(4):
                assert await member.membership.still_owns(lane, inbox_position=0) == (lane in member.held)
        await b.membership.leave()
        assert b.held == set()
        await until(lambda: a.held == {0, 1, 2, 3}, GOODBYE_WITHIN_S)


@protocols
async def test_nobody_gets_a_lane_before_its_owner_has_let_go(kafka: Broker, protocol: str) -> None:
    settings = settings_for(kafka, protocol)
    async with opened(settings) as one, opened(settings) as two:
        group = await group_topics(one, settings)
        a, b = Member(one, group, let_go_s=1.0), Member(two, group)
        await a.join()
        joining = asyncio.ensure_future(b.join())
        async with asyncio.timeout(SOON_S):
            while not b.held:
                assert not a.held & b.held
                await asyncio.sleep(0.01)
        assert not a.held & b.held
        await joining


@protocols
async def test_a_member_reads_inbox_and_sources_and_the_group_shows_how_far(kafka: Broker, protocol: str) -> None:
    settings = settings_for(kafka, protocol)
    async with opened(settings) as log:
        group = await group_topics(log, settings)
        inbox, events = f"{group}.inbox", f"{group}.events"
        await log.writer(inbox, 2).append(values("m0", "m1"))
        await log.writer(events, 1).append(values("e0", "e1", "e2"))
        member = Member(log, group)
        await member.join()
        messages, source = member.membership.reader(inbox, 2, 1), member.membership.reader(events, 1, 0)
        assert [r.value for r in await read_upto(messages, 2)] == [b"m1"]
        assert [r.value for r in await read_upto(source, 3)] == [b"e0", b"e1", b"e2"]
        await member.membership.commit({(inbox, 2): 2, (events, 1): 3})
        admin = AdminClient(settings.admin())
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
        found = {(p.topic, p.partition): p.offset for p in asked.result().topic_partitions}
        assert (found[inbox, 2], found[events, 1]) == (2, 3)


@protocols
async def test_readers_of_a_lane_that_moved_are_told_and_the_others_go_on(kafka: Broker, protocol: str) -> None:
    settings = settings_for(kafka, protocol)
    async with opened(settings) as one, opened(settings) as two:
        group = await group_topics(one, settings)
        a, b = Member(one, group), Member(two, group)
        await a.join()
        events = f"{group}.events"
        inboxes = {lane: a.membership.reader(f"{group}.inbox", lane, 0) for lane in range(4)}
        sources = {}
        for partition in range(4):
            sources[partition] = a.membership.reader(events, partition, 0)
            await one.writer(events, partition).append(values("first"))
        for reader in sources.values():
            await read_upto(reader, 1)
        await b.join()
        await until(lambda: len(a.held) == len(b.held) == 2)
        for lane in range(4):
            await two.writer(f"{group}.inbox", lane).append(values("late"))
        for lane, reader in inboxes.items():
            if lane in a.held:
                assert [r.value for r in await read_upto(reader, 1)] == [b"late"]
            else:
                with pytest.raises(LogUnavailable, match="went to another worker"):
                    await reader.read(max_records=1, max_bytes=1, wait_s=1.0)
                taken = b.membership.reader(f"{group}.inbox", lane, 0)
                assert [r.value for r in await read_upto(taken, 1)] == [b"late"]
        going_on = 0
        for partition, reader in sources.items():
            await one.writer(events, partition).append(values("second"))
            try:
                assert [r.value for r in await read_upto(reader, 2)] == [b"second"]
                going_on += 1
            except LogUnavailable:
                pass
        assert going_on == 2


@protocols
async def test_a_new_reader_of_a_partition_takes_it_over(kafka: Broker, protocol: str) -> None:
    settings = settings_for(kafka, protocol)
    async with opened(settings) as log:
        group = await group_topics(log, settings)
        await log.writer(f"{group}.inbox", 0).append(values("a", "b"))
        member = Member(log, group)
        await member.join()
        first = member.membership.reader(f"{group}.inbox", 0, 0)
        await read_upto(first, 2)
        second = member.membership.reader(f"{group}.inbox", 0, 1)
        assert [r.value for r in await read_upto(second, 2)] == [b"b"]
        with pytest.raises(LogUnavailable, match="newer reader"):
            await first.read(max_records=1, max_bytes=1, wait_s=1.0)


@protocols
async def test_a_checkpoint_begun_before_the_lane_moved_is_refused(kafka: Broker, protocol: str) -> None:
    settings = settings_for(kafka, protocol)
    async with opened(settings) as one, opened(settings) as two:
        group = await group_topics(one, settings)
        a, b = Member(one, group), Member(two, group)
        await a.join()
        begun = await one.transaction("checkpoint")
        for lane in range(4):
            await begun.send(f"{group}.steps", lane, [Produced(b"stale", b"row")])
        await b.join()
        await until(lambda: len(a.held) == len(b.held) == 2)
        lost = min(b.held)
        with pytest.raises(TransactionRefused):
            await begun.commit({lost: 0})
        again = await two.transaction("checkpoint")
        await again.send(f"{group}.steps", lost, [Produced(b"fresh", b"row")])
        await again.commit({lost: 1})
        steps = f"{group}.steps"
        found = await read_upto(one.reader(steps, lost, 0), await one.end_offset(steps, lost))
        assert [r.value for r in found] == [b"fresh"]


ZOMBIE = """
import asyncio, sys
sys.path[:0] = {paths!r}
from tests.kafka.broker import Broker
from tests.kafka.logs import Member, opened, settings_for
from millstream.errors import LogUnavailable
from millstream.log.port import Produced

async def main():
    async with opened(settings_for(Broker({bootstrap!r}), {protocol!r}, 2_000), "zombie") as log:
        member = Member(log, {group!r})
        await member.join()
        begun = await log.transaction("checkpoint")
        await begun.send({group!r} + ".steps", 0, [Produced(b"stale", b"row")])
        print("joined", sorted(member.held), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        owns = []
        for lane in range(4):
            try:
                owns.append(await member.membership.still_owns(lane, inbox_position=99))
            except LogUnavailable as error:
                owns.append(type(error).__name__)
        print("owns", owns, flush=True)
        try:
            await begun.commit({{0: 99}})
            print("committed", flush=True)
        except LogUnavailable as error:
            print("refused", type(error).__name__, flush=True)

asyncio.run(main())
"""


@protocols
async def test_a_worker_that_was_stopped_past_its_session_owns_nothing_when_it_wakes(
    kafka: Broker, protocol: str
) -> None:
    settings = settings_for(kafka, protocol, 2_000)
    async with opened(settings) as log:
        group = await group_topics(log, settings)
        loop = asyncio.get_running_loop()
        zombie = await loop.run_in_executor(None, start_zombie, kafka.bootstrap, protocol, group)
        assert zombie.stdin is not None
        assert zombie.stdout is not None
        try:
            assert await loop.run_in_executor(None, zombie.stdout.readline) == "joined [0, 1, 2, 3]\n"
            os.kill(zombie.pid, signal.SIGSTOP)
            lawful = Member(log, group)
            await lawful.join()
            await until(lambda: lawful.held == {0, 1, 2, 3})
            assert await lawful.membership.still_owns(0, inbox_position=5)
            zombie.stdin.write("\n")
            zombie.stdin.flush()
            os.kill(zombie.pid, signal.SIGCONT)
            assert await loop.run_in_executor(None, zombie.stdout.readline) == "owns [False, False, False, False]\n"
            refused = await loop.run_in_executor(None, zombie.stdout.readline)
            assert refused == "refused TransactionRefused\n"
        finally:
            zombie.kill()
            zombie.wait()


def start_zombie(bootstrap: str, protocol: str, group: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])
    script = ZOMBIE.format(paths=[root, f"{root}/platform"], bootstrap=bootstrap, group=group, protocol=protocol)
    return subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
