"""Damaged data directories: each is refused in words, or nothing that was acknowledged is missing.

One directory is lived in and killed; each case damages a copy and starts a server on it.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from millstream.cli.support.exits import CHECK_FAILED
from tests.cases.damages import Damage, cut, damaged, flipped, gone, lived, started_on
from tests.cli.program import millstream

WAL, DB, MARK, NOTE = "log/log.db-wal", "log/log.db", "log/mark", "group"
REFUSED: dict[str, Damage] = {
    **{f"flip in the WAL at {share}": flipped(WAL, share) for share in (0, 0.05, 0.3, 0.6, 0.9)},
    **{f"WAL cut to {share}": cut(WAL, share) for share in (0, 0.1, 0.5, 0.9)},
    "no WAL": gone(WAL),
    "no log.db": gone(DB),
    "an empty log.db": cut(DB, 0),
    "no log.db, no WAL": gone(DB, WAL, "log/log.db-shm"),
    "no log": gone("log"),
    "no log, no caches": gone("log", "state", "history.db", "history.db-wal", "history.db-shm"),
    "no mark, no WAL": gone(MARK, WAL),
    "no mark, no log.db": gone(MARK, DB),
    "no note": gone(NOTE),
    "an empty note": cut(NOTE, 0),
    **{f"flip in the note at {share}": flipped(NOTE, share) for share in (0, 0.13, 0.5, 0.9)},
}
EITHER: dict[str, Damage] = {
    **{f"flip in log.db at {share}": flipped(DB, share) for share in (0, 0.02, 0.5)},
    **{f"flip in the mark at {share}": flipped(MARK, share) for share in (0, 0.02, 0.5)},
    "the mark cut": cut(MARK, 0.3),
    "no mark": gone(MARK),
    "the WAL's last bytes cut": cut(WAL, 0.995),
    "no shared memory": gone("log/log.db-shm"),
    "no state": gone("state"),
    "no history": gone("history.db", "history.db-wal", "history.db-shm"),
}


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived(tmp_path_factory.mktemp("lived"))


@pytest.fixture(scope="module")
def stopped(lived_in: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped in good order: everything is in log.db, and there is no WAL."""
    import asyncio

    data = damaged(lived_in, tmp_path_factory.mktemp("stopped"), lambda data: None)
    assert asyncio.run(started_on(data)).is_harmless
    return data


@pytest.mark.parametrize("what", REFUSED)
async def test_what_takes_acknowledged_events_away_is_refused(lived_in: Path, tmp_path: Path, what: str) -> None:
    outcome = await started_on(damaged(lived_in, tmp_path, REFUSED[what]))
    assert outcome.refused, outcome


@pytest.mark.parametrize("what", EITHER)
async def test_other_damage_is_harmless_or_refused(lived_in: Path, tmp_path: Path, what: str) -> None:
    outcome = await started_on(damaged(lived_in, tmp_path, EITHER[what]))
    assert outcome.refused or outcome.is_harmless, outcome


@pytest.mark.parametrize("share", [n / 12 for n in range(12)])
async def test_a_flipped_bit_in_a_log_that_was_stopped_is_harmless_or_refused(
    stopped: Path, tmp_path: Path, share: float
) -> None:
    outcome = await started_on(damaged(stopped, tmp_path, flipped(DB, share)))
    assert outcome.refused or outcome.is_harmless, outcome


async def test_a_log_replaced_by_an_older_copy_is_refused(lived_in: Path, tmp_path: Path) -> None:
    def older(data: Path) -> None:
        for name in (WAL, "log/log.db-shm", MARK):
            (data / name).unlink()
        with sqlite3.connect(data / DB) as file:
            file.executescript("PRAGMA user_version = 0;")

    outcome = await started_on(damaged(lived_in, tmp_path, older))
    assert outcome.refused, outcome


async def test_a_history_that_knows_more_than_a_log_that_is_whole_is_made_anew(lived_in: Path, tmp_path: Path) -> None:
    def ahead(data: Path) -> None:
        with sqlite3.connect(data / "history.db") as file:
            file.execute("UPDATE position SET position = position + 1000")

    data = damaged(lived_in, tmp_path, ahead)
    assert (await started_on(data)).is_harmless
    assert list(data.glob("history.db.lost-*"))
    data = damaged(lived_in, tmp_path / "without a mark", lambda data: (ahead(data), gone(MARK)(data))[0])
    assert "has folded more" in (await started_on(data)).refused


def test_the_command_says_what_is_missing_and_goes_on_only_when_told_to(lived_in: Path, tmp_path: Path) -> None:
    data = damaged(lived_in, tmp_path, gone(WAL))
    refused = millstream("serve", "--data", str(data), "--insecure-no-event-key", "tests.cases.app:app", "--port", "0")
    assert refused.code == CHECK_FAILED, refused.err
    assert "topic 'events' partition 0: offsets 0 to 39 (40 records, acknowledged up to 20" in refused.err
    assert "Nothing was changed" in refused.err
    assert "--accept-loss" in refused.err
    found = millstream("lanes", "verify", "--data", str(data))
    assert found.code == CHECK_FAILED
    assert any(row["topic"] == "events" and row["offset"] == 0 for row in found.rows), found.rows


async def test_an_accepted_loss_goes_on_with_what_is_there_and_is_written_down(lived_in: Path, tmp_path: Path) -> None:
    data = damaged(lived_in, tmp_path, cut(WAL, 0.5))
    accepted = await started_on(data, accept_loss=True)
    assert not accepted.refused
    assert 0 < len(accepted.events) < 40
    lines = [json.loads(line) for line in (data / "losses.jsonl").read_text().splitlines()]
    assert all(line["accepted"] == "--accept-loss" for line in lines)
    assert "topic 'events' partition 0" in lines[0]["lost"]
    assert list(data.glob("history.db.lost-*"))
    assert list((data / "log").glob("lost-*/log.db-wal"))
    assert not (await started_on(data)).refused, "the next start needs no acceptance"


async def test_a_lost_note_is_written_again_by_whoever_names_its_group(lived_in: Path, tmp_path: Path) -> None:
    data = damaged(lived_in, tmp_path, gone(NOTE))
    refused = await started_on(data)
    assert "--group shop --lanes 1" in refused.refused
    assert (await started_on(data, lanes=1)).is_harmless
    assert (await started_on(data)).is_harmless
