"""Requests that a step asks this server to make: ``step.fetch`` and ``step.ai.infer`` of the SDKs.

Pure but for ``make``: the SDK's words (``opts``) in, a request out; an answer in, an operation out.

    gateway      any status is a success: the app gets {"url", "status_code", "headers", "body"}
    ai_gateway   a status of 200 to 299 is: the app gets the provider's JSON; the key goes where the provider wants it

Headers are written in Title-Case: some services compare them so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from millstream.execute.endpoint.calls import USER_AGENT
from millstream.execute.endpoint.http import Http, Unsendable, joined
from millstream.execute.endpoint.opcodes import Malformed
from millstream.execute.endpoint.response import Answer, HttpFailed, TooLarge
from millstream.execute.endpoint.retry_after import retry_after_ms
from millstream.model import limits
from millstream.model.operations import Failure, StepDone, StepErrored
from millstream.model.rows import StepRow
from millstream.model.text.storable import shown, storable

KIND: Final = "gateway"
AI_KIND: Final = "ai_gateway"
KINDS: Final = frozenset({KIND, AI_KIND})
REDIRECTS_MAX: Final = 5
ERROR: Final = {KIND: "GatewayError", AI_KIND: "AIGatewayError"}
SHOWN_BYTES: Final = 500
_AI_URLS: Final = {
    "openai-chat": "https://api.openai.com/v1/chat/completions",
    "openai-responses": "https://api.openai.com/v1/responses",
    "anthropic": "https://api.anthropic.com/v1/messages",
}
_AI_KEYS: Final = {"anthropic": "X-Api-Key", "gemini": "X-Goog-Api-Key", "azure-openai": "Api-Key"}
"""The header in which a provider wants its key; any other: ``Authorization: Bearer``."""
_PASSING: Final = frozenset({408, 409, 425, 429})
_WRITTEN_HERE: Final = frozenset({"Host", "Content-Length", "Transfer-Encoding", "Connection", "Accept-Encoding"})


class Outside(msgspec.Struct, frozen=True):
    """A request to somebody else's server."""

    url: str
    method: str
    headers: dict[str, str]
    body: bytes | None


def request_of(kind: str, opts: bytes) -> Outside:
    """The request in an SDK's words. Raises Malformed."""
    try:
        given = json.loads(opts)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Malformed(f"asked for a request that is no object, got {opts[:80]!r}.")
    try:
        return _ai_request(given) if kind == AI_KIND else _request(given)
    except ValueError as error:  # Of a URL that is none, of half a surrogate.
        raise Malformed(f"asked for a request that cannot be written: {error}.") from error


def _request(given: Mapping[str, Any]) -> Outside:
    url, method, body = given.get("url"), given.get("method") or "GET", given.get("body")
    if not isinstance(url, str) or not isinstance(method, str) or not method.isalpha():
        raise Malformed(f"asked for a request without a URL or a method, got {shown(url)} and {shown(method)}.")
    headers = {"User-Agent": USER_AGENT, **_headers(given.get("headers"))}
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    return Outside(url, method.upper(), headers, text.encode() if text is not None else None)


def _ai_request(given: Mapping[str, Any]) -> Outside:
    form, key = str(given.get("format") or ""), given.get("auth_key")
    url = given.get("url") or _AI_URLS.get(form)
    if not isinstance(url, str):
        raise Malformed(f"asked for a model of format {form[:40]!r} without a URL, and none is known for it.")
    headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json", **_headers(given.get("headers"))}
    if isinstance(key, str) and key and not (form == "gemini" and "key=" in urlsplit(url).query):
        name = _AI_KEYS.get(form)
        headers.setdefault(*((name, key) if name else ("Authorization", f"Bearer {key}")))
    if form == "anthropic":
        headers.setdefault("Anthropic-Version", "2023-06-01")
    body = json.dumps(given.get("body"), separators=(",", ":"), sort_keys=True)
    return Outside(url, "POST", headers, body.encode())


def _headers(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise Malformed(f"asked for a request whose headers are no object, got {shown(given)}.")
    titled = {title_case(str(name)): value for name, value in given.items()}
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in titled.items()
        if name not in _WRITTEN_HERE
    }


def title_case(name: str) -> str:
    """``x-api-key`` as ``X-Api-Key``."""
    return "-".join(part.capitalize() for part in name.split("-"))


async def make(
    http: Http, row: StepRow, started_ms: int, now_ms: Callable[[], int], total_s: float
) -> StepDone | StepErrored:
    """Make the request of a gateway's step; what it comes to."""
    try:
        request = request_of(row.kind, row.data)
        answer = await _followed(http, request, total_s)
    except Malformed as error:
        return _errored(row, started_ms, f"the app {error}", retriable=False)
    except Unsendable as error:
        return _errored(row, started_ms, f"the request cannot be sent: {error}", retriable=False)
    except TooLarge:
        text = f"the answer was refused: at most {limits.STEP_OUTPUT_BYTES_MAX} bytes, and it has more"
        return _errored(row, started_ms, text, retriable=False)
    except HttpFailed as error:
        return _errored(row, started_ms, f"the request could not be made: {error}", retriable=True)
    return result_of(row, request, answer, started_ms, now_ms())


async def _followed(http: Http, request: Outside, total_s: float) -> Answer:
    """The answer where redirects end. Another host is not told what was meant for the first."""
    url, method, body, headers = request.url, request.method, request.body, request.headers
    for _ in range(REDIRECTS_MAX):
        answer = await http.request(method, url, headers, body, total_s=total_s, bytes_max=limits.STEP_OUTPUT_BYTES_MAX)
        target = joined(url, answer.headers.get("location", ""))
        if answer.status not in (301, 302, 303, 307, 308) or target in ("", url):
            break
        if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
            method, body = "GET", None
        if urlsplit(target)[:2] != urlsplit(url)[:2]:
            secret = {"Authorization", "Cookie", *_AI_KEYS.values()}
            headers = {name: value for name, value in headers.items() if name not in secret}
        url = target
    return answer


def result_of(row: StepRow, request: Outside, answer: Answer, started_ms: int, now_ms: int) -> StepDone | StepErrored:
    """What an answer comes to for the step."""
    if row.kind == KIND:
        value = {
            "body": answer.body.decode(errors="replace"),
            "headers": {title_case(name): text for name, text in sorted(answer.headers.items())},
            "status_code": answer.status,
            "url": request.url,
        }
        return StepDone(row.step, row.name, msgspec.json.encode(value), started_ms, row.kind)
    body = answer.body[:SHOWN_BYTES].decode(errors="replace")
    if not 200 <= answer.status < 300:
        after_ms = retry_after_ms(answer.headers.get("retry-after", ""), now_ms)
        retriable = answer.status >= 500 or answer.status in _PASSING
        text = f"the provider answered with status {answer.status}: {body}"
        return _errored(row, started_ms, text, retriable=retriable, after_ms=after_ms)
    try:
        msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _errored(row, started_ms, f"the provider answered with what is no JSON: {body}", retriable=True)
    return StepDone(row.step, row.name, answer.body, started_ms, row.kind)


def _errored(row: StepRow, started_ms: int, text: str, *, retriable: bool, after_ms: int = -1) -> StepErrored:
    message = storable(f"step {row.name!r}: {text}.", limits.ERROR_MESSAGE_CHARS_MAX)
    return StepErrored(row.step, row.name, Failure(ERROR[row.kind], message), started_ms, retriable, after_ms)
