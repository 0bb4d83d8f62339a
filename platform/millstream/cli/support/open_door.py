"""Starts that would let anybody in: refused, unless somebody has said that this is meant."""

from __future__ import annotations

from typing import Final

from millstream.api.sockets.listening import is_loopback, refuse_no_host
from millstream.config import BY_NAME, Settings
from millstream.errors import ConfigError

MAKE_A_KEY: Final = "python -c 'import secrets; print(secrets.token_hex(24))'"
FLAG: Final = BY_NAME["insecure_no_event_key"].flag


def refuse_without_key(settings: Settings) -> None:
    """Raise ConfigError where anybody could send events, and nobody has said that this is meant."""
    refuse_no_host(settings.text("host"))
    if not _is_decided(settings):
        raise ConfigError(
            "no event key was given: expected at least one, since without one whoever reaches the port may send events "
            f"and start functions. {_how_to_give_one()} On your own machine, millstream dev needs none; {FLAG} does "
            "without."
        )


def refuse_open_host(settings: Settings) -> None:
    """Raise ConfigError where other machines could act without a key, and nobody has said that this is meant."""
    host = settings.text("host")
    refuse_no_host(host)
    if not _is_decided(settings) and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines in and no event key was given: expected one, since whoever reaches the "
            f"port may send events, and start and cancel runs. {_how_to_give_one()} Or listen on 127.0.0.1; {FLAG} "
            "does without a key, for a network that only you can reach."
        )


def _is_decided(settings: Settings) -> bool:
    """Whether there are keys, or none are meant. Raises ConfigError for both."""
    keys, is_meant = settings.texts("event_keys"), settings.switch("insecure_no_event_key")
    if any(not key.strip() for key in keys):
        raise ConfigError(
            "--event-key was given, and is empty: expected a key, or no such option. Is the variable set that holds it?"
        )
    if keys and is_meant:
        raise ConfigError(f"event keys and {FLAG} were both given: expected one of them. Leave {FLAG} out.")
    return bool(keys) or is_meant


def _how_to_give_one() -> str:
    return f"Name it with --event-key or MILLSTREAM_EVENT_KEYS (several with commas), and make it with: {MAKE_A_KEY}."
