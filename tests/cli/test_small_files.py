"""Small files are written whole or not at all: a start that depends on one never finds an empty one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from millstream.dev import DevServer, DevSettings
from millstream.disk import PASSING, passing, write_small_file
from millstream.errors import OperatorError
from millstream.group_note import made_with
from millstream.roles.worker import name_in
from tests.disks import fill, small_disk


def test_a_file_is_replaced_whole_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "group"
    write_small_file(path, b"one")
    write_small_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["group"]


def test_what_a_process_that_died_left_beside_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "group.new").write_bytes(b"half a gr")
    write_small_file(tmp_path / "group", b"whole")
    assert (tmp_path / "group").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["group"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"theirs")
    (tmp_path / "group").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "group.new").symlink_to(tmp_path / "elsewhere")
    write_small_file(tmp_path / "group", b"ours")
    assert (tmp_path / "elsewhere").read_bytes() == b"theirs"
    assert (tmp_path / "group").read_bytes() == b"ours"


def test_on_a_full_disk_nothing_is_written_and_what_was_there_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "256k") as disk:
        write_small_file(disk / "group", b"before")
        filler = fill(disk)
        for name in ("group", "new"):
            with pytest.raises(
                OperatorError, match=r"was not written: no room on the disk .* is unchanged\. Mend that"
            ):
                write_small_file(disk / name, b"after")
        assert (disk / "group").read_bytes() == b"before"
        assert sorted(os.listdir(disk)) == ["filler", "group"]
        filler.unlink()
        write_small_file(disk / "group", b"after")
        assert (disk / "group").read_bytes() == b"after"


def test_a_worker_that_found_no_room_for_its_name_gets_one_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "256k") as disk:
        filler = fill(disk)
        with pytest.raises(OperatorError, match="worker-name was not written: no room on the disk"):
            name_in(disk)
        filler.unlink()
        assert name_in(disk) == name_in(disk)


async def test_a_directory_made_on_a_full_disk_is_made_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "16m") as disk:
        filler = fill(disk)
        server = DevServer([], DevSettings(data=disk / "data", port=0, lanes=3))
        with pytest.raises(OperatorError, match="no room"):
            await server.start()
        await server.stop(0)
        filler.unlink()
        server = DevServer([], DevSettings(data=disk / "data", port=0, lanes=3))
        await server.start()
        await server.stop(0)
        made = made_with(disk / "data")
        assert made is not None and made.lanes == 3


def test_what_passes_is_known_by_its_number_or_by_the_systems_words() -> None:
    assert passing(OSError(errno.ENOSPC, "whatever")) == "no room on the disk"
    assert (
        passing(Exception("IO error: No space left on device: While appending to file: 7.log")) == PASSING[errno.ENOSPC]
    )
    assert passing(Exception("IO error: Too many open files: While open a file")) == PASSING[errno.EMFILE]
    assert passing(OSError(errno.EIO, "Input/output error")) == ""
    assert passing(Exception("Corruption: block checksum mismatch")) == ""
