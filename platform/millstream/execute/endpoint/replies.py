"""The reply of an app as what a lane understands: operations.

Pure: status, headers and body in, operations out. Nothing here raises: whatever an app answers is an answer, and one
that cannot be read is an error of the attempt, in words that say what to do.

    201 + {"status", "headers", "body"}   a stream: the reply is inside
    200                                   the function's result
    206                                   a list of operations
    anything else of an SDK               the error of this attempt; retriable unless x-inngest-no-retry says otherwise
    anything without x-inngest-sdk        not of an SDK but of a proxy or another program: ``explain.py`` says what

Add an opcode: a function in ``OPCODES`` of ``opcodes.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from millstream.execute.endpoint.caller import NO_HTTP, UNAUTHORIZED, Asked, Outcome
from millstream.execute.endpoint.explain import Trouble, explain_call
from millstream.execute.endpoint.opcodes import OPCODES, Malformed, Op, Told, failure_of_json
from millstream.execute.endpoint.retry_after import retry_after_ms
from millstream.execute.failures import STEP_TIMEOUT
from millstream.model import limits
from millstream.model.operations import BodyDone, BodyErrored, Failure, Operation, StepErrored, WaitFound
from millstream.model.text.storable import storable
from millstream.wire.json_limits import whole_characters

REPLY_BYTES_MAX: Final = 8 * 1024 * 1024
JOINS_FROM_VERSION: Final = 2
"""From this version of the protocol on an app wants to be called again when all of its steps have ended."""
Verify = Callable[[str, bytes], bool]
SIGNATURE: Final = "x-inngest-signature"
SDK: Final = "x-inngest-sdk"
VERSION: Final = "x-inngest-req-version"
NO_RETRY: Final = "x-inngest-no-retry"
RETRY_AFTER: Final = "retry-after"
OF_THE_APP: Final = ("answered", "failed")
"""How a call ends that the app itself has answered."""
OUTCOMES: Final = (*OF_THE_APP, "refused", "no_app", "too_large", "too_slow")
_MALFORMED: Final = "malformed_reply"


class Answered(msgspec.Struct, frozen=True, gc=False):
    """What a reply says.

    ``joint``    the body is called again when all of these steps have ended (True), or when any of them has (False);
                 None: no steps are side by side.
    ``version``  of the protocol that the app speaks; −1: it did not say, or the reply was no good one.
    ``trouble``  what is wrong with the app, or with what stands before it, in one sentence; "": nothing.
    ``nothing_ran``  beside a trouble: certainly no code of the function ran.
    ``is_of_all``    beside a trouble: certainly none did where a look at the app meets the same trouble.
    """

    operations: tuple[Operation, ...]
    joint: bool | None = None
    version: int = -1
    trouble: str = ""
    nothing_ran: bool = False
    is_of_all: bool = False


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An HTTP answer. ``headers`` have lower-case names; ``started_ms``: when it was asked for, ``now_ms``: it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    started_ms: int
    now_ms: int


def read_reply(reply: Reply, url: str, function: str, verify: Verify | None = None) -> Answered:
    """What the app at ``url`` has answered. ``verify``: whether a signature is one of these bytes; None: dev mode."""
    status, headers, body, now_ms = reply.status, reply.headers, reply.body, reply.now_ms
    if status == 201:
        inside = _streamed(body)
        if inside is None:
            return _refused("answered with a stream (201) that ended without a reply in it", body)
        status, more, body = inside
        headers = {**headers, **more}
    if status == UNAUTHORIZED:  # An SDK takes its header off then; around a stream it has sent it already.
        headers = {name: value for name, value in headers.items() if name != SDK}
    is_forged = verify is not None and SDK in headers and not verify(headers.get(SIGNATURE, ""), body)
    if is_forged or status >= 400 or SDK not in headers:
        asked = Asked("POST", url, "cloud" if verify is not None else "dev", function=function)
        trouble = explain_call(asked, Outcome(status, headers, body, is_forged=is_forged))
        if trouble is not None:
            name = "wrong_signature" if is_forged else "not_sdk"
            return _in_trouble(name, trouble)
    if status == 200:
        return _result(headers, whole_characters(body))
    if status == 206:
        return _operations(headers, whole_characters(body), reply)
    failure = failure_of_json(body, f"the app answered with status {status}")
    retriable = headers.get(NO_RETRY) != "true"
    return Answered((BodyErrored(failure, retriable, retry_after_ms(headers.get(RETRY_AFTER, ""), now_ms)),))


def outcome_of(answered: Answered) -> str:
    """How a call ended, as metrics count it: one of ``OUTCOMES``."""
    if answered.trouble:
        return "refused" if answered.nothing_ran else "no_app"
    for operation in answered.operations:
        match operation:
            case BodyErrored(failure=Failure(name="output_too_large")):
                return "too_large"
            case BodyErrored(failure=Failure(name=failed)):
                return "too_slow" if failed == STEP_TIMEOUT else "failed"
            case StepErrored():
                return "failed"
    return "answered"


def _result(headers: Mapping[str, str], body: bytes) -> Answered:
    try:
        result = bytes(msgspec.json.decode(body or b"null", type=msgspec.Raw))
        result.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _refused(f"answered with a result (200) that is no JSON ({error})", body)
    except RecursionError:
        return _refused("answered with a result (200) that is nested too deeply", body)
    return Answered((BodyDone(result),), version=version_of(headers))


def _operations(headers: Mapping[str, str], body: bytes, reply: Reply) -> Answered:
    after_ms = retry_after_ms(headers.get(RETRY_AFTER, ""), reply.now_ms)
    told = Told(reply.now_ms, reply.started_ms, headers.get(NO_RETRY) == "true", after_ms)
    operations: list[Operation] = []
    wrong: list[str] = []
    is_race = False
    try:
        every = msgspec.json.decode(body or b"[]", type=list[msgspec.Raw])
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _refused(f"answered with operations (206) that are no JSON array ({error})", body)
    except RecursionError:
        return _refused("answered with operations (206) that are nested too deeply", body)
    for raw in every:
        try:
            op = msgspec.json.decode(raw, type=Op)
            made = OPCODES.get(op.op)
            if made is None:
                raise Malformed(
                    f"answered with the opcode {op.op[:80]!r}, which this server does not know. Do without that "
                    "tool of the SDK, or update the server."
                )
            operations += made(op, told)
            is_race = is_race or (op.opts or {}).get("parallelMode") == "race"
        except (msgspec.MsgspecError, Malformed) as error:
            wrong.append(str(error) if isinstance(error, Malformed) else _no_operation(raw, error))
    # Waits first: they exist before the steps beside them run, whose work they may wait for.
    operations.sort(key=lambda operation: not isinstance(operation, WaitFound))
    if wrong:
        operations.append(BodyErrored(Failure(_MALFORMED, f"the app {wrong[0]}")))
    version = version_of(headers)
    joint = not is_race and version >= JOINS_FROM_VERSION if is_race or len(operations) > 1 else None
    return Answered(tuple(operations), joint, version)


def version_of(headers: Mapping[str, str]) -> int:
    """The protocol's version that an app says it speaks; −1: it does not say."""
    said = headers.get(VERSION, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 4 else -1


def _streamed(body: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """The reply inside a stream, behind the spaces that have kept it alive."""
    try:
        inside = json.loads(body)
        headers = {str(name).lower(): str(value) for name, value in (inside.get("headers") or {}).items()}
        text = inside.get("body", "")
        return int(inside["status"]), headers, (text if isinstance(text, str) else json.dumps(text)).encode()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _no_operation(raw: msgspec.Raw, error: msgspec.MsgspecError) -> str:
    return (
        f"answered with an operation that is none: {error}; got {bytes(raw)[:200].decode(errors='replace')!r}. "
        "Expected op and id, as an SDK writes them: update the SDK, or look at what rewrites its answers."
    )


def _refused(what: str, body: bytes) -> Answered:
    shown = body[:200].decode(errors="replace")
    message = (
        f"the app {what}, got {shown!r}. Look at what a step returns that JSON does not have, such as NaN, and at "
        "proxies that cut or rewrite answers."
    )
    return Answered((BodyErrored(Failure(_MALFORMED, message)),))


def too_large() -> Answered:
    """A reply of more than REPLY_BYTES_MAX."""
    message = (
        f"the answer of the app was refused: at most {REPLY_BYTES_MAX} bytes, and it has more. Return less from a step "
        "or from the function: store it elsewhere and return a reference."
    )
    return Answered((BodyErrored(Failure("output_too_large", message), retriable=False),))


def too_slow(total_s: float) -> Answered:
    """No reply within the time of an attempt."""
    message = (
        f"the app did not answer within {total_s:g} s: an attempt may take as long as the function's step timeout. "
        "Make the step smaller, or let it wait for an event that says it is done."
    )
    return Answered((BodyErrored(Failure(STEP_TIMEOUT, message)),))


def no_http(url: str, why: str, *, nothing_ran: bool) -> Answered:
    """What came back is no HTTP."""
    trouble = explain_call(Asked("POST", url), Outcome(failure=NO_HTTP, words=why))
    assert trouble is not None, "there is a sentence for every failure"
    return _in_trouble("not_sdk", trouble._replace(nothing_ran=nothing_ran))


def _in_trouble(name: str, trouble: Trouble) -> Answered:
    why, nothing_ran, is_of_all = trouble
    return Answered((BodyErrored(Failure(name, why)),), trouble=why, nothing_ran=nothing_ran, is_of_all=is_of_all)


def unsendable(error: Exception) -> Answered:
    """The run's events or steps have no form in which they could be sent."""
    return Answered((BodyErrored(Failure(type(error).__name__, str(error)), retriable=False),))


def failed_here(error: Exception) -> Answered:
    """Our own mistake."""
    message = f"the call of the app could not be made or read: {type(error).__name__}: {error}. Please report it."
    return Answered((BodyErrored(Failure("InternalError", storable(message, limits.ERROR_MESSAGE_CHARS_MAX))),))


def not_remembered(step: str, name: str) -> Answered:
    """The app has run a step that is resolved."""
    message = (
        f"the app ran step {name!r} ({step}) although the call had its result: it did not read the steps that it was "
        "sent, or could not ask this server for them (INNGEST_BASE_URL). Look whether a proxy changes what is posted."
    )
    return Answered((BodyErrored(Failure("StepNotRemembered", message)),))
