"""Arguments checked before a server is asked: what cannot be right is wrong usage (exit 2), and says what was expected.

What a file or a pipe holds is input and not an argument; ``jsonl.py`` reads that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from millstream.cli.support.jsonl import STDIN, decoded, payload
from millstream.errors import BadRequest, ConfigError
from millstream.model import limits
from millstream.model.ids import is_ulid

STATUSES: Final = (
    "Queued", "Running", "Retrying", "Sleeping", "Waiting", "Parked", "Held", "Completed", "Failed", "Cancelled",
)  # fmt: skip
"""Every word that the state of a run is shown with; a test holds it against the history's."""
MS_DIGITS_MAX: Final = 15


def statuses_of(words: Sequence[str]) -> list[str]:
    """Statuses as the server has them, in any case, with commas or repeated."""
    found = [word.strip().capitalize() for text in words for word in text.split(",") if word.strip()]
    for word in found:
        if word not in STATUSES:
            raise ConfigError(f"--status was refused: expected one of {', '.join(STATUSES)}, got {word!r:.80}.")
    return found


def run_of(text: str) -> str:
    """A run's id."""
    if not is_ulid(text):
        raise ConfigError(
            f"no run has the id {text!r:.80}: expected 26 characters such as 01M8321AD85Y4GST1D5EH83AVG. "
            "See them with: millstream runs list."
        )
    return text


def runs_meant(runs: Sequence[str], function: str, filters: Mapping[str, str]) -> bool:
    """Whether the runs named are to be cancelled, and not those of a function that fit. Raises ConfigError."""
    if runs and function:
        raise ConfigError("--function was refused: name runs, or a function whose runs are meant, not both.")
    if not runs and not function:
        raise ConfigError("no runs were named: expected ids of runs, or --function with a function's id.")
    stray = [flag for flag, value in filters.items() if value]
    if runs and stray:
        raise ConfigError(f"{stray[0]} was refused: it chooses among the runs of --function, and runs were named.")
    return bool(runs)


def cancellation_of(text: str) -> str:
    """A cancellation's id."""
    if not is_ulid(text):
        raise ConfigError(
            f"no cancellation has the id {text!r:.80}: expected 26 characters such as 01M8321AD85Y4GST1D5EH83AVG. "
            "See them with: millstream cancellations list."
        )
    return text


def time_of(text: str, flag: str, words: Sequence[str] = ()) -> str:
    """A time, Unix milliseconds, or one of ``words``; empty for none."""
    if not text or text in words or (text.isdecimal() and len(text) <= MS_DIGITS_MAX):
        return text
    try:
        datetime.fromisoformat(text)
    except ValueError:
        also = f", {' or '.join(words)}" if words else ""
        raise ConfigError(
            f"{flag} was refused: expected a time such as 2026-01-31T12:00:00Z, Unix milliseconds{also}, "
            f"got {text!r:.80}."
        ) from None
    return text


def name_of(text: str) -> str:
    """The name of an event."""
    if not text.strip():
        raise ConfigError("an event needs a name such as order/placed, got an empty one.")
    return text


def ts_of(ts: int) -> int:
    """An event's time."""
    if not limits.EVENT_TS_MIN_MS <= ts <= limits.EVENT_TS_MAX_MS:
        raise ConfigError(
            f"--ts was refused: expected Unix milliseconds, {limits.EVENT_TS_MIN_MS} (1980) to "
            f"{limits.EVENT_TS_MAX_MS} (2100), got {str(ts)[:40]}."
        )
    return ts


def json_of(text: str, flag: str) -> bytes:
    """The JSON that an argument is; what ``@file`` and ``-`` hold is not looked at here."""
    raw = payload(text)
    if text != STDIN and not text.startswith("@") and "\n" not in text.strip():
        try:
            decoded(raw, flag)
        except BadRequest as error:
            raise ConfigError(f"{error}. Quote it for the shell: {flag} '{{\"order\": 7}}'.") from error
    return raw


def object_of(text: str, flag: str) -> dict[str, Any]:
    """The one JSON object of an argument, a file or standard input."""
    found = decoded(json_of(text, flag), flag)
    if not isinstance(found, dict):
        raise ConfigError(f'{flag} was refused: expected a JSON object such as {{"order": 7}}, got {str(found)[:80]}.')
    return found
