"""What is wrong where an app does not answer as one: one sentence each that says what happened and what to do.

The same sentences go into the errors of attempts, the log and what the API says of an app.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HANDLED: Final = "x-inngest-sdk-handled"
_SHOWN_CHARS: Final = 120
_TITLE: Final = re.compile(rb"<title[^>]*>(.{1,200}?)</title>", re.IGNORECASE | re.DOTALL)
_GATEWAY: Final = {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def not_sdk(status: int, headers: Mapping[str, str], body: bytes, url: str) -> str:
    """Why a reply without the SDK's header came from ``url``."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if status == 401 and HANDLED in headers:
        return (
            f"the app at {url} refused the call (401): it wants signed calls, with its own signing key. Start the "
            "server with that --signing-key; or, for development, the app in dev mode (INNGEST_DEV=1)."
        )
    if status in (401, 403):
        return (
            f"what stands before {url} refused the call ({status}): expected the SDK to answer. Let the server through "
            "the login or firewall in front of this path."
        )
    if 300 <= status < 400:
        where = headers.get("location", "")[:_SHOWN_CHARS]
        return (
            f"{url} redirects to {where!r} ({status}), and calls are not sent on to another place. Register the URL "
            "where the app really is."
        )
    if status in (404, 405):
        return (
            f"nothing serves functions at {url} ({status}): expected the SDK's handler there. Give the URL with its "
            "path, as a rule /api/inngest, and look whether the app was deployed with it."
        )
    if status in _GATEWAY:
        return (
            f"a proxy before {url} answered for the app: {status} {_GATEWAY[status]}. The app is down, or takes longer "
            "than the proxy allows: raise its limit, or make the steps smaller."
        )
    got = f"{kind or 'no content type'}{_page(body)}"
    return (
        f"{url} answered with status {status} and no x-inngest-sdk header ({got}): expected the SDK to answer. Look "
        "whether another program listens at this address, and whether a proxy removes headers."
    )


def _page(body: bytes) -> str:
    title = _TITLE.search(body[:10_000])
    if title is not None:
        return f", a page called {title[1].decode(errors='replace').strip()[:_SHOWN_CHARS]!r}"
    shown = body[:_SHOWN_CHARS].decode(errors="replace").strip()
    return f": {shown!r}" if shown else ""


def unreachable(url: str, error: BaseException) -> str:
    """Why no connection to ``url`` could be made. Nothing was executed."""
    why = str(error)[: _SHOWN_CHARS * 2] or type(error).__name__
    return (
        f"nothing answers at {url}: {why}. Start the app, or register the address where it is; its runs wait, and go "
        "on by themselves."
    )


def wrong_signature(url: str) -> str:
    """A reply whose signature none of the server's keys has made."""
    return (
        f"the answer of the app at {url} was refused: expected it signed with the server's signing key, got "
        "another signature or none. Give the app and the server the same INNGEST_SIGNING_KEY, and look whether a proxy "
        "rewrites answers."
    )


def not_http(url: str, why: str) -> str:
    """Why what listens at ``url`` is no web server."""
    return (
        f"what listens at {url} does not speak HTTP ({why[:_SHOWN_CHARS]}): expected an app. Look at the port, and "
        "whether the URL should begin with https."
    )
