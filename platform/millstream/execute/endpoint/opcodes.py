"""Opcodes of the SDKs' protocol as operations, a function each.

An element of a 206 has its opcode, the step's id (a hash, opaque here), what people call the step, and what the opcode
needs in ``opts``. Some SDKs write the same thing in ``name`` instead. Fields that are not named here are passed over.

Add an opcode: a function, and its name in ``OPCODES``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from millstream.errors import FunctionError
from millstream.model import limits
from millstream.model.error_object import more_of
from millstream.model.operations import (
    BodyDone,
    Condition,
    Failure,
    GatewayFound,
    InvokeFound,
    Operation,
    SignalWaitFound,
    SleepFound,
    StepDone,
    StepErrored,
    StepFound,
    WaitFound,
)
from millstream.model.text.durations import instant_ms, to_ms
from millstream.model.text.storable import shown, storable

NAME_CHARS_MAX: Final = limits.STEP_ID_CHARS_MAX
_NO_ERROR_NAME: Final = "Error"


class Malformed(Exception):
    """An operation that cannot be carried out: its text says what the app has done."""


class Op(msgspec.Struct, frozen=True):
    """One element of a 206. ``data`` and ``error`` stay JSON; ``timing``: nanoseconds, ``a`` is the start."""

    op: str
    id: str = ""
    name: str | None = None
    displayName: str | None = None
    opts: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    timing: dict[str, Any] | None = None


class Told(msgspec.Struct, frozen=True):
    """What the reply around an operation says of errors in it. ``now_ms``: when it came; ``started_ms``: when its call
    was made."""

    now_ms: int
    started_ms: int
    no_retry: bool
    retry_after_ms: int


def failure_of_json(data: bytes, otherwise: str) -> Failure:
    """An SDK's error object; ``otherwise`` is the message where it is none, beside what it is."""
    try:
        error = json.loads(data)
    except (ValueError, RecursionError):
        error = None
    if not isinstance(error, dict):
        text = data[: limits.ERROR_MESSAGE_CHARS_MAX].decode(errors="replace")
        return Failure(_NO_ERROR_NAME, storable(f"{otherwise}: {text}", limits.ERROR_MESSAGE_CHARS_MAX))
    name, message, stack = (error.get(key) for key in ("name", "message", "stack"))
    return Failure(
        storable(name if isinstance(name, str) and name else _NO_ERROR_NAME, limits.ERROR_NAME_CHARS_MAX),
        storable(message if isinstance(message, str) else otherwise, limits.ERROR_MESSAGE_CHARS_MAX),
        storable(stack if isinstance(stack, str) else "", limits.ERROR_STACK_CHARS_MAX),
        more_of(error),
    )


def _step(op: Op) -> tuple[str, str]:
    """The step's id, and what people see."""
    if not 1 <= len(op.id) <= limits.STEP_ID_CHARS_MAX:
        raise Malformed(
            f"answered with opcode {op.op} and no id of a step: expected 1 to {limits.STEP_ID_CHARS_MAX} characters, "
            f"got {len(op.id)}."
        )
    return op.id, storable(op.displayName or op.name or op.id, NAME_CHARS_MAX)


def _started_ms(op: Op, told: Told) -> int:
    start = (op.timing or {}).get("a")
    if isinstance(start, int) and limits.EVENT_TS_MIN_MS <= start // 1_000_000 <= limits.EVENT_TS_MAX_MS:
        return start // 1_000_000
    return told.started_ms


def _done(op: Op, told: Told) -> list[Operation]:
    step, name = _step(op)
    return [StepDone(step, name, bytes(op.data), _started_ms(op, told))]


def _errored(op: Op, told: Told) -> list[Operation]:
    step, name = _step(op)
    failure = failure_of_json(bytes(op.error), f"step {name!r} failed and its app gave no error")
    retriable = not (told.no_retry or _flag(op.error, "noRetry"))
    return [StepErrored(step, name, failure, _started_ms(op, told), retriable, told.retry_after_ms)]


def _failed(op: Op, told: Told) -> list[Operation]:
    step, name = _step(op)
    failure = failure_of_json(bytes(op.error), f"step {name!r} failed for good and its app gave no error")
    return [StepErrored(step, name, failure, _started_ms(op, told), retriable=False)]


def _flag(error: msgspec.Raw, key: str) -> bool:
    try:
        read = json.loads(bytes(error))
    except (ValueError, RecursionError):
        return False
    return isinstance(read, dict) and read.get(key) is True


def _planned(op: Op, told: Told) -> list[Operation]:
    return [StepFound(*_step(op))]


def _sleep(op: Op, told: Told) -> list[Operation]:
    step, name = _step(op)
    text = _opt(op, "duration") or _opt(op, "until") or op.name
    if text is None:
        raise Malformed(f"asked to sleep at step {name!r} and said no time.")
    length_ms, until_ms = _when(op, text)
    return [SleepFound(step, name, length_ms, until_ms)]


def _wait(op: Op, told: Told) -> list[Operation]:
    step, name = _step(op)
    event = _opt(op, "event") or op.name or ""
    if not event:
        raise Malformed(f"asked to wait at step {name!r} and named no event.")
    match, expression = _opt(op, "match"), _opt(op, "if")
    condition = Condition(event[: limits.EVENT_NAME_CHARS_MAX], match, expression)
    return [WaitFound(step, name, (condition,), _timeout_ms(op, told))]


def _signal(op: Op, told: Told) -> list[Operation]:
    step, name = _step(op)
    signal = _opt(op, "signal") or op.name or ""
    if not 1 <= len(signal) <= limits.SIGNAL_NAME_CHARS_MAX:
        raise Malformed(
            f"asked to wait for a signal at step {name!r}: its name must have 1 to {limits.SIGNAL_NAME_CHARS_MAX} "
            f"characters, got {len(signal)}."
        )
    replaces = _opt(op, "conflict") == "replace"
    return [SignalWaitFound(step, name, signal, _timeout_ms(op, told), replaces)]


def _invoke(op: Op, told: Told) -> list[Operation]:
    step, name = _step(op)
    function = _opt(op, "function_id")
    if not function:
        raise Malformed(f"asked to invoke a function at step {name!r} and named none.")
    payload = (op.opts or {}).get("payload")
    given = payload if isinstance(payload, Mapping) else {}
    data, meta, v = (given.get(key) for key in ("data", "meta", "v"))
    for what, value in (("data", data), ("meta", meta)):
        if value is not None and not isinstance(value, Mapping):
            raise Malformed(f"invoked {function!r} with {what} that is no JSON object, got {shown(value)}.")
    if v is not None and not isinstance(v, str):
        raise Malformed(f"invoked {function!r} with a v that is no text, got {shown(v)}.")
    has_timeout = (op.opts or {}).get("timeout") is not None
    timeout_ms = _timeout_ms(op, told) if has_timeout else limits.WAIT_MS_MAX
    written = msgspec.json.encode(meta) if meta else b""
    return [InvokeFound(step, name, function, msgspec.json.encode(data or {}), timeout_ms, meta=written, v=v or "")]


def _gateway(op: Op, told: Told) -> list[Operation]:
    return [GatewayFound(*_step(op), msgspec.json.encode(op.opts or {}))]


def _ai_gateway(op: Op, told: Told) -> list[Operation]:
    return [GatewayFound(*_step(op), msgspec.json.encode(op.opts or {}), "ai_gateway")]


def _run_complete(op: Op, told: Told) -> list[Operation]:
    return [BodyDone(bytes(op.data))]


def _nothing(op: Op, told: Told) -> list[Operation]:
    return []


def _opt(op: Op, key: str) -> str:
    """A text of the options; "" where there is none."""
    value = (op.opts or {}).get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"answered with opcode {op.op} whose {key} is no text, got {shown(value)}.")
    return value


def _timeout_ms(op: Op, told: Told) -> int:
    """How long to wait: nothing said is not at all."""
    length_ms, until_ms = _when(op, _opt(op, "timeout"))
    return max(until_ms - told.now_ms, 0) if until_ms >= 0 else length_ms


def _when(op: Op, text: str) -> tuple[int, int]:
    """A length in milliseconds and −1, or any and the instant: "4m30s", "2026-11-22T14:12:41.233Z".

    Version 3 of the TypeScript SDK writes whole seconds: of half a second it leaves "", which is no time at all.
    """
    text = text.strip()
    if not text:
        return 0, -1
    try:
        if text[:1].isdigit() and "T" not in text and "-" not in text:
            return to_ms(_with_units(text), f"the time of {op.op}"), -1
        datetime.fromisoformat(text)
        return 0, instant_ms(text, f"the time of {op.op}")
    except (FunctionError, ValueError) as error:
        raise Malformed(
            f"answered with opcode {op.op} and a time that is none: expected 4m30s or 2026-11-22T14:12:41Z, got "
            f"{shown(text)}."
        ) from error


def _with_units(text: str) -> str:
    return f"{text}ms" if text.isdigit() else text


OPCODES: Final[dict[str, Callable[[Op, Told], list[Operation]]]] = {
    "Step": _done,
    "StepRun": _done,
    "StepError": _errored,
    "StepFailed": _failed,
    "StepPlanned": _planned,
    "Sleep": _sleep,
    "WaitForEvent": _wait,
    "WaitForSignal": _signal,
    "InvokeFunction": _invoke,
    "Gateway": _gateway,
    "AIGateway": _ai_gateway,
    "RunComplete": _run_complete,
    "SyncRunComplete": _run_complete,
    "DiscoveryRequest": _nothing,
    "None": _nothing,
}
