"""Why an app cannot be reached, or does not register: one sentence that says what to do. Pure.

``CAUSES`` is the table: the first that holds is the answer. Add a cause: a line there, and a server in
``tests/api/test_explain.py`` that misbehaves so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from millstream.api.apps import calls
from millstream.api.apps.calls import EXPECTED_KIND_HEADER, Asked, Reply
from millstream.model.printable import one_line

WORDS_CHARS_MAX: Final = 500
PATHS: Final = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")
"""Where SDKs serve by their own advice."""
_PROXY_STATUSES: Final = (502, 503, 504)
_NO_SERVER: Final = (
    "fetch failed", "ECONNREFUSED", "ENOTFOUND", "Failed request to", "connection attempts failed",
    "Connection refused",
)  # fmt: skip


class Cause(NamedTuple):
    """A cause: whether it holds, and the sentence."""

    holds: Callable[[Asked, Reply], bool]
    says: Callable[[Asked, Reply], str]


def explain(asked: Asked, reply: Reply) -> str:
    """Why this reply is none of an app that works; "" where it is one."""
    return next((cause.says(asked, reply) for cause in CAUSES if cause.holds(asked, reply)), "")


def registered_elsewhere(asked: Asked) -> str:
    """What to do where an app says that it has registered, and no registration came here."""
    return (
        f"the app at {asked.url} has registered, but with another server: expected it to come here. Start it with "
        f"{_variable(asked)}={_own(asked)}."
    )


def unsigned_reply(asked: Asked) -> str:
    """What to do where an app's answer is not signed with a key of ours."""
    return (
        f"the app at {asked.url} has answered without a signature of this server's signing key: it has another key, or "
        "its clock is more than 5 minutes off. Give both the same key: INNGEST_SIGNING_KEY in the app, --signing-key "
        "here."
    )


def _variable(asked: Asked) -> str:
    return "INNGEST_DEV" if asked.kind == "dev" else "INNGEST_DEV=0 INNGEST_BASE_URL"


def _own(asked: Asked) -> str:
    return asked.own_url or "<the address of this server>"


def _where(asked: Asked) -> str:
    return urlsplit(asked.url).netloc


def _message(reply: Reply) -> str:
    """What an SDK says went wrong."""
    said = reply.json
    text = next((said[key] for key in ("error", "message", "code") if isinstance(said.get(key), str)), "")
    return one_line(" ".join(text.split()))[:WORDS_CHARS_MAX]


def _is_refusal(reply: Reply) -> bool:
    """Whether an SDK hands on, under a status of success, that it was refused."""
    said = reply.json
    return isinstance(said.get("error"), str) and isinstance(said.get("status"), int) and said["status"] >= 400


def _is_html(reply: Reply) -> bool:
    return "html" in reply.headers.get("content-type", "") or reply.body[:200].lstrip().lower().startswith(
        (b"<!doctype", b"<html")
    )


def _failed(failure: str, text: str) -> Cause:
    def says(asked: Asked, reply: Reply) -> str:
        return text.format(url=asked.url, at=_where(asked), words=one_line(reply.words))

    return Cause(lambda _, reply: reply.failure == failure, says)


def _strange(statuses: tuple[int, ...], text: str) -> Cause:
    """An answer of no SDK with one of these statuses; none: with any."""

    def says(asked: Asked, reply: Reply) -> str:
        what = "an HTML page" if _is_html(reply) else "an answer"
        return text.format(
            url=asked.url, at=_where(asked), status=reply.status, method=asked.method, what=what, paths=", ".join(PATHS)
        )

    return Cause(lambda _, reply: not reply.is_sdk and (not statuses or reply.status in statuses), says)


def _is_mode_mismatch(asked: Asked, reply: Reply) -> bool:
    said = reply.json
    about = said.get("inspection")  # In the answer to an in-band sync.
    mode = about.get("mode") if isinstance(about, dict) else said.get("mode")
    wants = reply.headers.get(EXPECTED_KIND_HEADER.lower(), asked.kind)
    refused = said.get("code") == "server_kind_mismatch" or (reply.status >= 400 and wants != asked.kind)
    return refused or (mode in ("dev", "cloud") and mode != asked.kind)


def _mode_mismatch(asked: Asked, reply: Reply) -> str:
    if asked.kind == "dev":
        return (
            f"the app at {asked.url} is in cloud mode, this server in dev mode: start the app with "
            f"INNGEST_DEV={_own(asked)}, or this server with the app's signing key: --signing-key."
        )
    return (
        f"the app at {asked.url} is in dev mode, this server in cloud mode: start the app with INNGEST_DEV=0, "
        f"INNGEST_BASE_URL={_own(asked)} and this server's key as INNGEST_SIGNING_KEY."
    )


def _unauthorized(asked: Asked, reply: Reply) -> str:
    if asked.kind == "dev":
        return _mode_mismatch(asked, reply)
    return (
        f"the app at {asked.url} refused this server's signature: the two have different signing keys, or their clocks "
        "are more than 5 minutes apart. Give both the same key: INNGEST_SIGNING_KEY in the app, --signing-key here."
    )


def _no_server(asked: Asked, reply: Reply) -> str:
    return (
        f"the app at {asked.url} answers, but reaches no server to register with: {_message(reply)}. Start it with "
        f"{_variable(asked)}={_own(asked)}."
    )


CAUSES: Final[tuple[Cause, ...]] = (
    _failed(
        calls.REFUSED,
        "nothing listens at {at}: the app is not running, or has another port. Start it, or give its address: "
        "millstream apps sync URL.",
    ),
    _failed(calls.NO_SUCH_NAME, "the name in {url} is not known here: {words}. Give a name or an address that is."),
    _failed(
        calls.UNREACHED,
        "no connection to {at} in 3 s ({words}): a firewall, a wrong address, or an app in a network of its own. Give "
        "an address that this server can reach.",
    ),
    _failed(
        calls.SLOW,
        "the app at {url} did not answer within 10 s: it is blocked, or takes one request at a time and waits for "
        "itself. Look at its log.",
    ),
    _failed(calls.TLS_PLAIN, "{at} speaks plain HTTP, and https was asked for. Write http:// in the app's URL."),
    _failed(
        calls.TLS_UNTRUSTED,
        "the certificate of {at} is not trusted here: {words}. Give it one of an authority that this machine knows, or "
        "add its authority to the system's (SSL_CERT_FILE).",
    ),
    _failed(calls.TLS_BROKEN, "no TLS with {at}: {words}. Look at the certificate and the TLS versions there."),
    _failed(calls.NO_HTTP, "what listens at {at} does not speak HTTP. Give the app's own port."),
    _failed(
        calls.DROPPED,
        "{at} closed the connection without an answer: it speaks TLS where http:// was asked for, no HTTP at all, or "
        "has crashed. Try https://, and look at the app's log.",
    ),
    _failed(calls.TOO_LARGE, "the answer of {url} is larger than 4 MB: that is no Inngest app. Give the app's URL."),
    Cause(
        lambda _, reply: 300 <= reply.status < 400,
        lambda asked, reply: (
            f"{asked.url} redirects to {one_line(reply.headers.get('location', 'nowhere'))[:WORDS_CHARS_MAX]}, and "
            "redirects are not followed. Give the final address, and keep sign-in pages away from this path."
        ),
    ),
    Cause(
        lambda _, reply: reply.status == 401 and calls.HANDLED_HEADER in reply.headers and not reply.is_sdk,
        _unauthorized,
    ),
    _strange(
        (401, 403),
        "{url} answered {status} with {what} before any SDK was reached: a sign-in page, or a protection of "
        "deployments. Let this path through without it.",
    ),
    _strange(
        (404,),
        "{at} has nothing at this path: {url} answered 404 with {what}. Give the path where serve() is mounted, such "
        "as {paths}.",
    ),
    _strange(
        (405,),
        "{url} does not take {method}: it answered 405. Export GET, POST and PUT of serve() on this route.",
    ),
    _strange(
        _PROXY_STATUSES,
        "{url} answered {status} with {what} of a proxy: the app behind it is down, or takes longer than the proxy "
        "waits. Start it, or raise the proxy's timeout.",
    ),
    _strange(
        tuple(range(500, 600)),
        "{url} answered {status} with {what} and no SDK: the app fails before it reaches serve(). Look at its log.",
    ),
    _strange(
        (),
        "{url} answered {status} with {what}, but no Inngest SDK did: another server has this port, or the path is not "
        "the one where serve() is mounted. Give the app's own URL.",
    ),
    Cause(_is_mode_mismatch, _mode_mismatch),
    Cause(
        lambda _, reply: reply.status < 400 and _is_refusal(reply),
        lambda asked, reply: f"the app at {asked.url} was refused: {_message(reply)}",
    ),
    Cause(lambda _, reply: reply.status >= 400 and any(words in _message(reply) for words in _NO_SERVER), _no_server),
    Cause(
        lambda _, reply: reply.status >= 400,
        lambda asked, reply: f"the app at {asked.url} answered {reply.status}: {_message(reply) or 'without a reason'}",
    ),
)
"""In this order: what no answer came from, what no SDK answered, what an SDK said."""
