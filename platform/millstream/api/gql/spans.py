"""A run as a tree of spans: the run, a child for each step, and below a step that was tried again its attempts.

    Run ─┬─ charge ─┬─ Attempt 0
         │          └─ Attempt 1
         ├─ ship
         └─ function success     the end of a run that has completed; in a preview Finalization, also of one that failed

An ``outputID`` names the run and the step whose result or error it stands for. It is text that says so, and is read
back here: nothing is kept of it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from millstream.errors import BadRequest
from millstream.history.seen import RunInFull
from millstream.history.trail import COUNTED, ENDED, AttemptSeen, StepSeen, attempts_counted
from millstream.model.ids import hash16, is_ulid

ROOT_NAME: Final = "Run"
END_NAME: Final = "function success"
PREVIEWED_END_NAME: Final = "Finalization"
OUTPUT_ID_CHARS_MAX: Final = 4_096
ATTEMPTS_SHOWN_MAX: Final = 50
"""Of a step the newest."""
_STATUS: Final = {
    "queued": "QUEUED",
    "planned": "RUNNING",
    "retrying": "RUNNING",
    "sleeping": "WAITING",
    "waiting": "WAITING",
    "parked": "WAITING",
    "held": "WAITING",
}


class Span(msgspec.Struct, frozen=True):
    """A span as it is shown. Times in Unix ms, 0: not yet. ``output`` "": it has none."""

    name: str
    status: str
    queued_ms: int
    started_ms: int
    ended_ms: int
    span: str
    step: str | None = None
    output: str = ""
    attempts: int = 0
    children: tuple[Span, ...] = ()


class OutputOf(msgspec.Struct, frozen=True, array_like=True):
    """What an outputID names: a run, or a step of it."""

    run: str
    step: str | None = None


_output_of: Final = msgspec.json.Decoder(OutputOf)


def tree_of(full: RunInFull, *, preview: bool) -> Span:
    """The spans of a run."""
    run = full.run
    steps = [_of_step(run.run, step) for step in full.steps if step.step]
    is_over = run.status in ("Completed", "Failed")
    output = output_id(OutputOf(run.run)) if is_over else ""
    if run.status == "Completed" or (preview and is_over):
        steps.append(
            Span(
                PREVIEWED_END_NAME if preview else END_NAME,
                run.status.upper(),
                run.ended_ms,
                run.ended_ms,
                run.ended_ms,
                _id(run.run, "end"),
                output=output,
            )
        )
    return Span(
        ROOT_NAME,
        run.status.upper(),
        run.queued_ms,
        run.started_ms,
        run.ended_ms,
        _id(run.run, "run"),
        output=output,
        children=tuple(steps),
    )


def _of_step(run: str, step: StepSeen) -> Span:
    tried = [attempt for attempt in step.attempts if attempt.status in COUNTED]
    shown = tried[-ATTEMPTS_SHOWN_MAX:] if len(tried) > 1 else []
    has_output = step.status in ("completed", "failed")
    return Span(
        step.name,
        step.status.upper() if step.status in ENDED else _STATUS[step.status],
        step.started_at_ms,
        step.started_at_ms,
        step.ended_at_ms,
        _id(run, f"step {step.step}"),
        step=step.step,
        output=output_id(OutputOf(run, step.step)) if has_output else "",
        attempts=attempts_counted(step),
        children=tuple(_of_attempt(run, step, attempt) for attempt in shown),
    )


def _of_attempt(run: str, step: StepSeen, attempt: AttemptSeen) -> Span:
    times = (attempt.started_at_ms, attempt.started_at_ms, attempt.ended_at_ms)
    return Span(
        f"Attempt {attempt.attempt}",
        attempt.status.upper(),
        *times,
        _id(run, f"attempt {attempt.attempt} {step.step}"),
        step=step.step,
    )


def output_id(of: OutputOf) -> str:
    """The outputID of a run, or of a step of it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(of)).decode()


def read_output_id(text: str) -> OutputOf:
    """What an outputID names. Raises BadRequest for what is none."""
    try:
        if len(text) <= OUTPUT_ID_CHARS_MAX:
            of = _output_of.decode(base64.urlsafe_b64decode(text.encode("ascii", "replace")))
            if is_ulid(of.run):
                return of
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError):
        pass
    raise BadRequest(f"no outputID: expected one that a span of a trace has shown, got {text[:64]!r}")


def _id(run: str, what: str) -> str:
    return hash16(run, what).hex()[:16]
