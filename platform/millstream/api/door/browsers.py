"""What a web page that somebody has open may do here: post events, and nothing else.

A browser on the server's machine reaches it, whatever the page came from that it shows. Two ways lead from such a page
to a server that asks for no key:

    DNS rebinding    the page's own name is made to point here, so that the browser takes our answers for the page's:
                     a name that is not ours is refused (421)
    forged requests  a page may send a POST anywhere without asking first, if it looks like a form's: what acts needs
                     what a form cannot have, and an origin that is ours (403)

Names are ours that nobody can own on the internet (addresses, ``localhost``, names without a dot, endings that are
reserved for private use), and those that ``--allowed-host`` gives. ``/e/`` is open to front ends anywhere, as it must
be; a callback needs its token, which no page can guess, and nothing else; probes and metrics tell nothing that a page
could use. Who has an event key acts from wherever he is.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from millstream.errors import Forbidden, Misdirected
from millstream.model.waits.callback_token import PATH

ANY: Final = "*"
PRIVATE: Final = (".localhost", ".local", ".internal", ".svc", ".cluster.local", ".home.arpa", ".test", ".lan")
API_HEADER: Final = "X-Millstream"
OPEN: Final = ("/e/", PATH, "/livez", "/readyz", "/health", "/metrics")
_OUR_SITES: Final = ("same-origin", "none")


def refuse_strange_host(request: web.Request, allowed: frozenset[str]) -> None:
    """Raise Misdirected for a request to a name that is not ours."""
    if request.path.startswith(OPEN):
        return
    host = request.headers.get("Host", "")
    name = _name_of(host)
    if not (_is_nobodys(name) or _is_allowed(name, allowed)):
        raise Misdirected(
            f"the host {host[:200]!r} was refused: expected an address, a name without a dot, or one that the server "
            "was told is its own, since a web page can make any other name point here. Start the server with "
            f"--allowed-host {name[:200]}, or MILLSTREAM_ALLOWED_HOSTS."
        )


def refuse_forged(request: web.Request) -> None:
    """Raise Forbidden for a request to act that any web page could have sent. For servers without keys."""
    origin = request.headers.get("Origin", "")
    site = request.headers.get("Sec-Fetch-Site", "")
    if (origin and _address_of(origin) != request.headers.get("Host", "").lower()) or site not in ("", *_OUR_SITES):
        raise Forbidden(
            f"{request.method} {request.path[:200]} was refused: it comes from a web page of "
            f"{origin[:200] or 'elsewhere'}, and this server asks for no event key. Pages may post events to /e/; give "
            "the server an --event-key, and let your own backend act with it."
        )
    if request.method == "POST" and not (_is_json(request) or {API_HEADER, "Authorization"} & request.headers.keys()):
        raise Forbidden(
            f"POST {request.path[:200]} was refused: expected the header Content-Type: application/json, got "
            f"{request.headers.get('Content-Type', 'none')[:100]!r}, which any web page may send. Send JSON as such, "
            f"or the header {API_HEADER}: 1."
        )


def _address_of(origin: str) -> str:
    """Host and port of an origin; "" for one that names none (``null``)."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


def _is_nobodys(name: str) -> bool:
    """Whether nobody on the internet can make the name point here: "" is of a client that is no browser."""
    if "." not in name and ":" not in name:
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
        return True
    except ValueError:
        return name.endswith(PRIVATE)


def _is_allowed(name: str, allowed: frozenset[str]) -> bool:
    return ANY in allowed or any(
        name.endswith(one) if one.startswith(".") else name == one for one in (each.lower() for each in allowed)
    )


def _is_json(request: web.Request) -> bool:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"
