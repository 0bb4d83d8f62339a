"""The port of a server: opened, or refused with words. Needs no HTTP library, so that a reloader may hold one."""

from __future__ import annotations

import ipaddress
import socket

from millstream.errors import ConfigError


def listen_on(host: str, port: int) -> socket.socket:
    """A socket bound to the address, and listening. Raises ConfigError where the port is taken, or no host is named."""
    refuse_no_host(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, reuse_port=False)
    except (OSError, UnicodeError, TypeError) as error:  # The last two: no name of a host can be written so.
        raise port_taken(host, port, error) from error


def port_taken(host: str, port: int, error: Exception) -> ConfigError:
    """The error for a port on which another process listens already."""
    why = getattr(error, "strerror", None) or error
    return ConfigError(f"cannot listen on {host}:{port}: {why}. Stop what listens there, or choose another port.")


def refuse_no_host(host: str) -> None:
    """Raise ConfigError for an empty host, which the system would take for every address."""
    if not host.strip():
        raise ConfigError(
            f"--host was refused: expected an address to listen on, got {host!r}. Write 127.0.0.1 for this machine "
            "only, 0.0.0.0 for all that can reach it."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name counts by the address that it stands for now."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError):
        return False  # Listening on it fails, with words.
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def is_every_address(host: str) -> bool:
    """Whether a server that listens there is reached under every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reached_at(host: str, port: int) -> str:
    """The address as a URL for this machine, also of a server that listens on every address."""
    return url_of({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)


def url_of(host: str, port: int) -> str:
    """The address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
