"""Why an app cannot be reached, does not register, or does not answer a call as one: one sentence that says what to do.

``NO_APP`` and ``SDK_SAYS`` are the table: the first cause that holds is the answer. The same sentences go into the
errors of attempts, the log, and what the API says of an app. Pure.

After a call it counts whether any of the function's code may have run (``Cause.nothing_ran``):

    no connection, no HTTP at all            nothing ran
    a redirect; 401, 403, 404, 405, 429      nothing ran: a server, a proxy or the SDK has refused the call itself
    an HTML page with 2xx                    nothing ran: no SDK answers so
    the SDK does not know the function       nothing ran
    500 and above, but for 502 to 504        nothing ran where a look is answered so, too: the app's code does not load
    any other answer without an SDK's header it may have run: 502 and 504 come when an app takes too long, too, and a
                                             proxy that drops headers hides a good answer
    an answer without the right signature    it has run, as a rule: an app in dev mode, or a proxy that rewrites answers

What follows from that, ``endpoints.Endpoint.examine`` says. Add a cause: a line in the table, and a server in
``tests/api/test_explain.py`` that misbehaves so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from millstream.execute.endpoint import caller
from millstream.execute.endpoint.caller import EXPECTED_KIND_HEADER, Asked, Outcome
from millstream.model.text.printable import one_line
from millstream.model.text.redaction import redacted_by_form

WORDS_CHARS_MAX: Final = 500
PATHS: Final = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")
"""Where SDKs serve by their own advice."""
PROXY_STATUSES: Final = (502, 503, 504)
"""What a proxy answers that has nobody behind it, or waits for him no longer."""
_TITLE: Final = re.compile(rb"<title[^>]*>(.{1,120}?)</title>", re.IGNORECASE | re.DOTALL)
_TITLE_WITHIN_BYTES: Final = 10_000
_NO_FUNCTION: Final = (b"function_not_found", b"was not found in this app", b"No function ID found in request")
_NO_SDK: Final = (
    "{url} answered {status} with {what}, but no Inngest SDK did: another server has this port, the path is not the "
    "one where serve() is mounted, or a proxy drops the x-inngest-sdk header. Give the app's own URL."
)
_NO_SERVER: Final = (
    "fetch failed", "ECONNREFUSED", "ENOTFOUND", "Failed request to", "connection attempts failed",
    "Connection refused",
)  # fmt: skip


class Cause(NamedTuple):
    """A cause: whether it holds, the sentence, and whether certainly no code of the function that was called ran.

    ``is_of_all``: certainly none did where a look at the app is answered with the same, too.
    """

    holds: Callable[[Asked, Outcome], bool]
    says: Callable[[Asked, Outcome], str]
    nothing_ran: bool = False
    is_of_all: bool = False


class Trouble(NamedTuple):
    """What is wrong, in one sentence; ``nothing_ran`` and ``is_of_all`` as in ``Cause``."""

    why: str
    nothing_ran: bool = False
    is_of_all: bool = False


def explain(asked: Asked, reply: Outcome) -> str:
    """Why what came back from a look at an app, or a sync, is not of one that works; "" where it is."""
    found = next((cause for cause in (*NO_APP, *SDK_SAYS) if cause.holds(asked, reply)), None)
    return redacted_by_form(found.says(asked, reply)) if found is not None else ""


def explain_call(asked: Asked, reply: Outcome) -> Trouble | None:
    """Why what came back from a call is not the answer of an app; None where it is one, whatever the function did."""
    causes = CALLS if reply.is_sdk else NO_APP
    found = next((cause for cause in causes if cause.holds(asked, reply)), None)
    if found is None:
        return None
    return Trouble(redacted_by_form(found.says(asked, reply)), found.nothing_ran, found.is_of_all)


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
    return urlsplit(asked.url).netloc.rpartition("@")[2]


def _message(reply: Outcome) -> str:
    """What an SDK says went wrong."""
    said = reply.json
    text = next((said[key] for key in ("error", "message", "code") if isinstance(said.get(key), str)), "")
    return one_line(" ".join(text.split()))[:WORDS_CHARS_MAX]


def _is_refusal(reply: Outcome) -> bool:
    """Whether an SDK hands on, under a status of success, that it was refused."""
    said = reply.json
    return isinstance(said.get("error"), str) and isinstance(said.get("status"), int) and said["status"] >= 400


def _is_html(reply: Outcome) -> bool:
    return "html" in reply.headers.get("content-type", "") or reply.body[:200].lstrip().lower().startswith(
        (b"<!doctype", b"<html")
    )


def _page(reply: Outcome) -> str:
    """What came back, in a few words."""
    if not _is_html(reply):
        return "an answer"
    title = _TITLE.search(reply.body[:_TITLE_WITHIN_BYTES])
    return f"an HTML page called {one_line(title[1].decode(errors='replace').strip())!r}" if title else "an HTML page"


def _failed(failure: str, text: str) -> Cause:
    def says(asked: Asked, reply: Outcome) -> str:
        return text.format(url=asked.url, at=_where(asked), words=one_line(reply.words))

    return Cause(lambda _, reply: reply.failure == failure, says)


def _strange(statuses: tuple[int, ...], text: str, *, nothing_ran: bool = False, is_of_all: bool = False) -> Cause:
    """An answer of no SDK with one of these statuses; none: with any."""

    def says(asked: Asked, reply: Outcome) -> str:
        return text.format(
            url=asked.url,
            at=_where(asked),
            status=reply.status,
            method=asked.method,
            what=_page(reply),
            paths=", ".join(PATHS),
        )

    def holds(_: Asked, reply: Outcome) -> bool:
        return not reply.is_sdk and (not statuses or reply.status in statuses)

    return Cause(holds, says, nothing_ran, is_of_all)


def _is_function_missing(asked: Asked, reply: Outcome) -> bool:
    """In the words of the SDKs for Python, and for TypeScript in versions 4 and 3."""
    if reply.status < 400 or not any(words in reply.body for words in _NO_FUNCTION):
        return False
    said = reply.json
    return said.get("code") == "function_not_found" or said.get("type") == "internal"


def _function_missing(asked: Asked, reply: Outcome) -> str:
    return (
        f"the app at {asked.url} does not have function {asked.function!r}: the code there is other than what has "
        "registered. Deploy the function again, or have the app register as it is now: "
        f"millstream apps sync {asked.url}"
    )


def _is_mode_mismatch(asked: Asked, reply: Outcome) -> bool:
    said = reply.json
    about = said.get("inspection")  # In the answer to an in-band sync.
    mode = about.get("mode") if isinstance(about, dict) else said.get("mode")
    wants = reply.headers.get(EXPECTED_KIND_HEADER.lower(), asked.kind)
    refused = said.get("code") == "server_kind_mismatch" or (reply.status >= 400 and wants != asked.kind)
    return refused or (mode in ("dev", "cloud") and mode != asked.kind)


def _mode_mismatch(asked: Asked, reply: Outcome) -> str:
    if asked.kind == "dev":
        return (
            f"the app at {asked.url} is in cloud mode, this server in dev mode: start the app with "
            f"INNGEST_DEV={_own(asked)}, or this server with the app's signing key: --signing-key."
        )
    return (
        f"the app at {asked.url} is in dev mode, this server in cloud mode: start the app with INNGEST_DEV=0, "
        f"INNGEST_BASE_URL={_own(asked)} and this server's key as INNGEST_SIGNING_KEY."
    )


def _unauthorized(asked: Asked, reply: Outcome) -> str:
    if asked.kind == "dev":
        return _mode_mismatch(asked, reply)
    return (
        f"the app at {asked.url} refused this server's signature: the two have different signing keys, or their clocks "
        "are more than 5 minutes apart. Give both the same key: INNGEST_SIGNING_KEY in the app, --signing-key here."
    )


def _no_server(asked: Asked, reply: Outcome) -> str:
    return (
        f"the app at {asked.url} answers, but reaches no server to register with: {_message(reply)}. Start it with "
        f"{_variable(asked)}={_own(asked)}."
    )


NO_APP: Final[tuple[Cause, ...]] = (
    _failed(
        caller.REFUSED,
        "nothing listens at {at}: the app is not running, or has another port. Start it, or give its address: "
        "millstream apps sync URL.",
    ),
    _failed(caller.NO_SUCH_NAME, "the name in {url} is not known here: {words}. Give a name or an address that is."),
    _failed(caller.FORBIDDEN, "{url} is not called: {words}."),
    _failed(caller.NO_URL, "{url} cannot be called: {words}. Give the app's URL."),
    _failed(
        caller.UNREACHED,
        "no connection to {at} ({words}): a firewall, a wrong address, or an app in a network of its own. Give an "
        "address that this server can reach.",
    ),
    _failed(
        caller.SLOW,
        "the app at {url} did not answer within 10 s: it is blocked, or takes one request at a time and waits for "
        "itself. Look at its log.",
    ),
    _failed(caller.TLS_PLAIN, "{at} speaks plain HTTP, and https was asked for. Write http:// in the app's URL."),
    _failed(
        caller.TLS_UNTRUSTED,
        "the certificate of {at} is not trusted here: {words}. Give it one of an authority that this machine knows, or "
        "add its authority to the system's (SSL_CERT_FILE).",
    ),
    _failed(caller.TLS_BROKEN, "no TLS with {at}: {words}. Look at the certificate and the TLS versions there."),
    _failed(
        caller.NO_HTTP,
        "what listens at {at} does not speak HTTP ({words}). Give the app's own port, and https:// where it speaks "
        "TLS.",
    ),
    _failed(
        caller.DROPPED,
        "{at} closed the connection without an answer: it speaks TLS where http:// was asked for, no HTTP at all, or "
        "has crashed. Try https://, and look at the app's log.",
    ),
    _failed(caller.TOO_LARGE, "the answer of {url} is larger than 4 MB: that is no Inngest app. Give the app's URL."),
    Cause(
        lambda _, reply: 300 <= reply.status < 400 and not reply.is_sdk,
        lambda asked, reply: (
            f"{asked.url} redirects to {one_line(reply.headers.get('location', 'nowhere'))[:WORDS_CHARS_MAX]}, and "
            "redirects are not followed. Give the final address, and keep sign-in pages away from this path."
        ),
        nothing_ran=True,
    ),
    Cause(
        lambda _, reply: reply.status == 401 and caller.HANDLED_HEADER in reply.headers and not reply.is_sdk,
        _unauthorized,
        nothing_ran=True,
    ),
    _strange(
        (401, 403),
        "{url} answered {status} with {what} before any SDK was reached: a sign-in page, or a protection of "
        "deployments. Let this path through without it.",
        nothing_ran=True,
    ),
    _strange(
        (404,),
        "{at} has nothing at this path: {url} answered 404 with {what}. Give the path where serve() is mounted, such "
        "as {paths}.",
        nothing_ran=True,
    ),
    _strange(
        (405,),
        "{url} does not take {method}: it answered 405. Export GET, POST and PUT of serve() on this route.",
        nothing_ran=True,
    ),
    _strange(
        (413,),
        "{url} answered 413 with {what} before any SDK was reached: a proxy takes no body as large as this one. Raise "
        "its limit; of nginx: client_max_body_size.",
    ),
    _strange(
        (429,),
        "{url} answered 429 with {what} before any SDK was reached: a proxy limits how often it is asked. Exempt this "
        "path, or have fewer steps run at a time.",
        nothing_ran=True,
    ),
    _strange(
        PROXY_STATUSES,
        "{url} answered {status} with {what} of a proxy: the app behind it is down, or takes longer than the proxy "
        "waits. Start it, raise the proxy's timeout, or make the steps smaller.",
    ),
    _strange(
        tuple(range(500, 600)),
        "{url} answered {status} with {what} and no SDK: the app fails before it reaches serve(). Look at its log; "
        "where that speaks of cloud mode without a key, set INNGEST_DEV or INNGEST_SIGNING_KEY.",
        is_of_all=True,
    ),
    Cause(
        lambda _, reply: 200 <= reply.status < 300 and not reply.is_sdk and _is_html(reply),
        lambda asked, reply: _NO_SDK.format(url=asked.url, status=reply.status, what=_page(reply)),
        nothing_ran=True,
    ),
    _strange((), _NO_SDK),
)
"""What no answer came from, what no SDK answered."""

FORGED: Final = Cause(lambda _, reply: reply.is_forged, lambda asked, _: unsigned_reply(asked))
CALLS: Final[tuple[Cause, ...]] = (
    FORGED,
    Cause(_is_function_missing, _function_missing, nothing_ran=True),
)
"""What an SDK says to a call that is not the function's answer."""

SDK_SAYS: Final[tuple[Cause, ...]] = (
    Cause(_is_mode_mismatch, _mode_mismatch),
    FORGED,
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
"""What an SDK says to a look, or to a sync."""
