"""The port of a server: opened, or refused with words. Needs no HTTP library, so that a reloader may hold one."""

from __future__ import annotations

import socket

from millstream.errors import ConfigError


def listen_on(host: str, port: int) -> socket.socket:
    """A socket bound to the address, and listening. Raises ConfigError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, reuse_port=False)
    except (OSError, UnicodeError, TypeError) as error:  # The last two: no name of a host can be written so.
        raise port_taken(host, port, error) from error


def port_taken(host: str, port: int, error: Exception) -> ConfigError:
    """The error for a port on which another process listens already."""
    why = getattr(error, "strerror", None) or error
    return ConfigError(f"cannot listen on {host}:{port}: {why}. Stop what listens there, or choose another port.")
