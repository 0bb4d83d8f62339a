"""A data directory is one process's, and stays where it was when user code changes the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from millstream import App
from millstream.dev import DevServer, DevSettings
from millstream.errors import LogLocked
from millstream.execute.processes.pool import Pool, PoolSettings
from millstream.log.kafka.settings import KafkaSettings
from millstream.process_handles import lock, unlock
from millstream.roles.group import Group
from millstream.roles.history import HistoryRole, HistorySettings
from millstream.roles.worker import WorkerRole, WorkerSettings

GROUP = Group(kafka=KafkaSettings(brokers="127.0.0.1:1"), group="g")


def test_a_directory_is_locked_until_it_is_given_back(tmp_path: Path) -> None:
    held = lock(tmp_path, "the log")
    with pytest.raises(LogLocked, match=f"the log in {tmp_path} is already being written by process {os.getpid()}"):
        lock(tmp_path, "the log")
    unlock(held)
    unlock(lock(tmp_path, "the log"))


async def test_a_second_worker_on_a_data_directory_is_refused_before_it_joins(tmp_path: Path) -> None:
    held = lock(tmp_path, "the store of a worker")
    role = WorkerRole([App("shop")], WorkerSettings(group=GROUP, data=tmp_path, port=0))
    try:
        with pytest.raises(LogLocked, match="choose another directory with --data"):
            await role.start()
    finally:
        await role.stop(0)
        unlock(held)
    unlock(lock(tmp_path, "the store of a worker"))


async def test_a_second_history_on_a_data_directory_is_refused(tmp_path: Path) -> None:
    held = lock(tmp_path, "the index of a history")
    role = HistoryRole(HistorySettings(group=GROUP, data=tmp_path, port=0))
    try:
        with pytest.raises(LogLocked, match="choose another directory with --data"):
            await role.start()
    finally:
        await role.stop(0)
        unlock(held)


def test_what_user_code_does_to_the_working_directory_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "apps", *sys.path])
    data = Path("data")
    held = [
        DevServer([App("shop")], DevSettings(data=data)).settings.data,
        WorkerRole([App("shop")], WorkerSettings(group=GROUP, data=data)).settings.data,
        HistoryRole(HistorySettings(group=GROUP, data=data)).settings.data,
    ]
    assert held == [tmp_path / "data"] * 3
    assert Pool(PoolSettings(executors=1, targets=("a:b",))).path[:2] == (str(tmp_path), str(tmp_path / "apps"))
