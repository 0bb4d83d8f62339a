"""The note of a data directory: its group, its number of lanes and the log they belong to (``<data>/group``).

It is written once, when the directory is made. A server that took another group for it would find no journal, and run
all events that the log still holds again; so a note that is missing beside a log, or does not fit it, refuses the
start.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from millstream.disk import write_small_file
from millstream.errors import ConfigError
from millstream.files import content_of
from millstream.log.embedded.file import FILE_NAME as LOG_FILE_NAME
from millstream.log.port import TopicSpec
from millstream.losses import Losses
from millstream.model.messages import group_topic
from millstream.telemetry import say

LOG: Final = logging.getLogger("millstream.dev")
FILE_NAME: Final = "group"
LANES_DEFAULT: Final = 1
LANES_MAX: Final = 4_096
_JOURNAL: Final = group_topic("", "journal")


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a data directory was made with; fixed from then on. ``log`` and ``check`` are "" in notes of before 0.9."""

    group: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=LANES_MAX)]
    log: str = ""
    check: str = ""

    @property
    def checksum(self) -> str:
        """What ``check`` is when nothing was damaged."""
        return f"{zlib.crc32(msgspec.json.encode((self.group, self.lanes, self.log))):08x}"


def made_with(data: Path) -> Made | None:
    """What a data directory was made with; None where there is none. Raises ConfigError for a note that is no note."""
    path = data / FILE_NAME
    try:
        if not os.path.lexists(path):
            return None
        made = msgspec.json.decode(content_of(path, "the file of the group"), type=Made)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} cannot be read: expected a group and its lanes as JSON, got {error}.") from error
    if made.check not in ("", made.checksum):
        raise ConfigError(
            f"{path} is damaged: expected checksum {made.check}, got {made.checksum} for group {made.group!r} with "
            f"{made.lanes} lanes. Restore it from a copy; or remove it, and the next start says which group the log "
            "holds."
        )
    return made


def refuse_missing_log(data: Path, losses: Losses) -> None:
    """Before a log is opened, which makes one where there is none. Raises AcknowledgedLost."""
    noted, file = made_with(data), data / "log" / LOG_FILE_NAME
    if noted is not None and noted.log and not file.exists():
        losses.found(
            f"the log {file} is missing: expected log {noted.log}, with which {data / FILE_NAME} says that this "
            "directory was made. Everything that was acknowledged is in it.",
            "Bring it back, or restore the whole directory from a copy.",
        )


def settled(data: Path, asked: tuple[str, int], identity: str, topics: Mapping[str, TopicSpec], losses: Losses) -> Made:
    """The directory's group and lanes, and a note that says so. ``asked`` are the settings; "" and 0 take what is.

    Raises ConfigError where they contradict the note, AcknowledgedLost where the note and the log do not belong
    together.
    """
    group, lanes = asked
    noted = made_with(data)
    if noted is None:
        made = _without_note(data, asked, topics, losses) if topics else Made(group, lanes or LANES_DEFAULT)
    else:
        _refuse_other(data, asked, noted)
        made = noted
        _check_log(data, noted, identity, topics, losses)
    made = Made(made.group, made.lanes, identity)
    made = Made(made.group, made.lanes, identity, made.checksum)
    if made != noted:
        write_small_file(data / FILE_NAME, msgspec.json.encode(made))
    if noted is None:
        say(LOG, "data directory made", path=str(data), group=made.group, lanes=made.lanes)
    return made


def _refuse_other(data: Path, asked: tuple[str, int], noted: Made) -> None:
    for name, wanted, held in (("--lanes", asked[1], noted.lanes), ("--group", asked[0], noted.group)):
        if wanted and wanted != held:
            raise ConfigError(
                f"{name} {wanted} was refused: the data directory {data} was made with {held}, and that "
                "is fixed. Leave the option out, or choose another directory with --data."
            )


def _without_note(data: Path, asked: tuple[str, int], topics: Mapping[str, TopicSpec], losses: Losses) -> Made:
    """The group of a log that lost its note: the one asked for, if the log holds it as asked."""
    held = {name.removesuffix(_JOURNAL): spec.partitions for name, spec in topics.items() if name.endswith(_JOURNAL)}
    group, lanes = asked
    if held.get(group) == lanes:
        return Made(group, lanes)
    known = " or ".join(f"--group {name} --lanes {count}" for name, count in held.items())
    losses.found(
        f"the note {data / FILE_NAME} of the directory's group and lanes is missing, and the log beside it is not new: "
        "with another group all events that it still holds would start functions again.",
        f"Start once with {known}, which the log holds: the note is written again and nothing is lost."
        if known
        else "Restore the directory from a copy.",
    )
    if len(held) == 1 and group in ("", *held):
        (group, lanes), *_ = held.items()
    if not group:
        raise ConfigError(f"the directory {data} has lost the note of its group: name one with --group.")
    return Made(group, lanes or LANES_DEFAULT)


def _check_log(data: Path, noted: Made, identity: str, topics: Mapping[str, TopicSpec], losses: Losses) -> None:
    path = data / FILE_NAME
    if noted.log not in ("", identity):
        losses.found(
            f"the log in {data} is not the one that this directory was made with: expected log {noted.log}, as {path} "
            f"says, got {identity}. Everything that was acknowledged into the other one is missing.",
            "Bring it back, or restore the whole directory from a copy.",
        )
    elif topics and group_topic(noted.group, "journal") not in topics:
        losses.found(
            f"the log in {data} has no journal of group {noted.group!r}, which {path} says it was made with: what its "
            "functions have done is missing, and all events that the log still holds would start them again.",
            f"The log has the topics {', '.join(sorted(topics))}. Restore the whole directory from a copy.",
        )
