"""A lane's settings: how often it flushes, checkpoints and trims, and how much it lets wait."""

from __future__ import annotations

from dataclasses import dataclass

from millstream.errors import ConfigError
from millstream.model.limits import DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """The defaults are those of ``millstream dev``; lengths are in milliseconds.

    ``flush_…``       the durable overlay goes to the local store when it is this old or has this many rows.
    ``checkpoint_…``  rows go to the compacted topics after these facts or this time, not more often than the gap.
    ``trim_lag_ms``   what a checkpoint made unnecessary stays this much longer; ``history_ms`` keeps it for readers;
                      ``trim_every_ms`` is how often it is looked for.
    ``queue_…max``    commands, and bytes of events, that may wait before sources pause; they pause at
                      ``overlay_bytes_max`` of unflushed rows, too. ``turn_…_max`` bound one group commit.
    ``heartbeat_ms``  how often a former owner says that it still runs something; ``silence_ms`` without a word is taken
                      for its death.
    ``scan_…_per_s``  records that the scans of a lane read in a second, all together nearly; 0: as fast as they can.
    """

    flush_after_ms: int = 1_000
    flush_rows: int = 20_000
    checkpoint_facts: int = 20_000
    checkpoint_after_ms: int = 60_000
    checkpoint_gap_ms: int = 5_000
    trim_lag_ms: int = 600_000
    trim_every_ms: int = 10_000
    history_ms: int = DAY_MS
    queue_max: int = 4_000
    overlay_bytes_max: int = 384 * 1024 * 1024
    queue_bytes_max: int = 64 * 1024 * 1024
    turn_commands_max: int = 2_000
    turn_facts_max: int = 4_000
    turn_bytes_max: int = 512 * 1024
    housekeeping_ms: int = 250
    retry_refused_ms: int = 500
    fence_wait_min_ms: int = 100
    fence_wait_max_ms: int = 500
    watchdog_ms: int = 15_000
    clock_off_max_ms: int = 30_000
    takeover_runs_per_turn: int = 200
    heartbeat_ms: int = 3_000
    silence_ms: int = 15_000
    scan_records_per_s: int = 5_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise ConfigError(f"lane setting {name} must not be negative, got {getattr(self, name)}.")
