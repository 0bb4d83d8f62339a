"""``millstream functions limit``: numbers of a function's gates, shown, set without a deploy, and reset.

concurrency=5   concurrency=5,20 (two rules)   throttle=10/1m   throttle=10/1m/3 (burst)   rate_limit=100/1h
throttle=reset  one option is as declared again                 reset           all are
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import Any, Final

from millstream.cli.support.api_client import Server
from millstream.cli.support.exits import OK, note
from millstream.cli.support.output import show_rows
from millstream.config import Settings
from millstream.errors import ConfigError

RESET: Final = "reset"
AS_DECLARED: Final = "-"
OPTIONS: Final = ("concurrency", "throttle", "rate_limit")
FORMS: Final = (
    "concurrency=5, concurrency=5,20, throttle=10/1m, throttle=10/1m/3, rate_limit=100/1h, throttle=reset, reset"
)
COLUMNS: Final = ("option", "key", "scope", "per", "declared", "override", "since", "by", "request")
BY_CHARS_MAX: Final = 200


def limit(settings: Settings, function: str, words: Sequence[str], by: str) -> int:
    """Change what the words say, or nothing where there are none; print the function's limits then."""
    wanted = wanted_of(words)
    with Server(settings) as server:
        if wanted is None:
            shown = server.reset_limits(function)
        elif wanted:
            shown = server.set_limits(function, {**wanted, "by": (by or _user())[:BY_CHARS_MAX]})
        else:
            shown = server.limits(function)
    rows = [*shown["limits"], *({"declared": None, **one} for one in shown["moot"])]
    show_rows(settings, rows, COLUMNS)
    if not rows:
        note(f"function {function!r} declares no limit")
    for one in shown["moot"]:
        note(f"the override of {one['option']} counts for nothing: the function does not declare this gate any more")
    return OK


def wanted_of(words: Sequence[str]) -> dict[str, Any] | None:
    """What the words ask for, as the server takes it; None: reset all. Raises ConfigError."""
    if RESET in words:
        if len(words) > 1:
            raise ConfigError("reset was refused beside others: it resets all. To reset one, write throttle=reset.")
        return None
    wanted: dict[str, Any] = {}
    for word in words:
        option, equals, text = word.partition("=")
        option = option.strip().replace("-", "_")
        if not equals or option not in OPTIONS:
            raise ConfigError(f"limit {word!r:.80} was refused: expected one such as {FORMS}.")
        if option in wanted:
            raise ConfigError(f"limit {word!r:.80} was refused: {option} was given before. Give it once.")
        wanted[option] = _value(option, text.strip(), word)
    return wanted


def _value(option: str, text: str, word: str) -> Any:
    if text == RESET:
        return None
    if option == "concurrency":
        numbers = [None if part.strip() == AS_DECLARED else _number(part, word) for part in text.split(",")]
        return numbers[0] if len(numbers) == 1 and numbers[0] is not None else numbers
    limit, *more = text.split("/")
    if len(more) > (2 if option == "throttle" else 1):
        raise ConfigError(f"limit {word!r:.80} was refused: expected one such as {FORMS}.")
    rate: dict[str, Any] = {"limit": _number(limit, word)}
    if more:
        rate["period"] = more[0].strip()
    if len(more) > 1:
        rate["burst"] = _number(more[1], word)
    return rate


def _number(text: str, word: str) -> int:
    text = text.strip().replace("_", "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) < 1:
        raise ConfigError(f"limit {word!r:.80} was refused: expected a whole number from 1, got {text!r:.40}.")
    return int(text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # In a container a user need not have a name.
        return ""
