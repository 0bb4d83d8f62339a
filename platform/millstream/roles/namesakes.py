"""Whether another living worker has this one's name: two of one name end each other's checkpoints for ever.

A member's client id holds its worker's name. One that is there before we join is either a process of before that died
and whose session is still open, or another that lives; only the end of its session tells. So a worker whose name is
taken waits for that long, which costs nothing: the lanes of the dead one are nobody's until then, either.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from millstream.errors import ConfigError, NotAllowed, OperatorError
from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.admin.topics import SESSION
from millstream.log.kafka.settings import KafkaSettings
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.worker")
LOOK_S: Final = 0.5
SLACK_S: Final = 3.0
"""How late a broker may be to end a session, and to say so."""
SESSION_MAX_S: Final = 60.0


async def refuse_namesake(kafka: KafkaSettings, group: str, name: str) -> None:
    """Return once no member of the group has this name. Raises ConfigError where one outlives its session."""
    admin = await asyncio.to_thread(Admin, kafka)
    until_s: float | None = None
    time = asyncio.get_running_loop().time
    while host := await asyncio.to_thread(_host, admin, group, kafka.member_id(name)):
        if until_s is None:
            session_s = await asyncio.to_thread(_session_s, admin, kafka, group)
            until_s = time() + session_s + SLACK_S
            say(LOG, "name taken", level=logging.WARNING, name=name, host=host, waits_s=session_s + SLACK_S,
                why="a worker of this name is a member: it died just now, or there are two")  # fmt: skip
        elif time() > until_s:
            raise ConfigError(
                f"the name {name!r} was refused: another living worker of group {group!r} has it, on {host}. Expected "
                "a name of its own for each worker, since two of one name end each other's checkpoints. Give another "
                "--name, or stop that one; a data directory is one worker's, too."
            )
        await asyncio.sleep(LOOK_S)


def _host(admin: Admin, group: str, client_id: str) -> str:
    """Where a member of this client id is; "" where there is none, or we may not ask."""
    try:
        found = admin.group(group)
    except NotAllowed:
        return ""
    return next((member.host for member in found.members if member.client_id == client_id), "") if found else ""


def _session_s(admin: Admin, kafka: KafkaSettings, group: str) -> float:
    """How long a member may be silent: the group's own setting where it has one."""
    if kafka.group_protocol != "consumer":
        return kafka.session_timeout_ms / 1000
    try:
        return min(int(admin.group_settings(group)[SESSION]) / 1000, SESSION_MAX_S)
    except (OperatorError, KeyError, ValueError, NotAllowed):
        return SESSION_MAX_S
