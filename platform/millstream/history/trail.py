"""What happened inside a run, as a trail of small entries, and the steps and attempts read from it.

The index keeps a run's steps as bytes beside its row, one packed list per batch of journal records, instead of one
row per attempt: writing is most of the history's work and reading one run is rare. Entries are positional and only
ever appended: ``(tag, at_ms, step, …)``. Tags are stored, so they never change their meaning.

Add a kind of entry: a tag in ``model/trail.py``, what writes it (``fold.py``, or ``shows`` of a step kind), its case in
``_Reading.take``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from millstream.core.step_kinds import kind_of
from millstream.core.steps import run
from millstream.model.trail import CAME, DONE, ERRORED, FAILED, WOKE, Entry
from millstream.model.waits.shown import WaitsFor
from millstream.model.waits.shown import read as read_waits_for

EXECUTED: Final = run.NAME
"""The kind of a step that was lost or parked before it was named: only such steps are handed out."""
BODY: Final = "body"
"""The kind under which the body of the function stands among its steps."""
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[list[Any]])


class Error(msgspec.Struct, frozen=True):
    """An exception as it was recorded. ``more``: its other members (``model/error_object.py``), where a step failed."""

    name: str
    message: str
    stack: str = ""
    more: bytes = b""


class _ErrorObject(msgspec.Struct, frozen=True):
    name: str
    message: str
    stack: str | None = None


def error_of(error: bytes) -> Error:
    """The three members that every error has, of an error as the API shows it."""
    read = msgspec.json.decode(error, type=_ErrorObject)
    return Error(read.name, read.message, read.stack or "")


class AttemptSeen(msgspec.Struct, frozen=True):
    """One try. ``status``: completed, failed, lost, stopped or parked; ``retry_at_ms`` 0 where none follows.

    Lost: its worker died. Stopped: its worker gave it back, since it stopped itself.
    """

    attempt: int
    status: str
    started_at_ms: int
    ended_at_ms: int
    error: Error | None = None
    retry_at_ms: int = 0


class GateSeen(msgspec.Struct):
    """A gate at which a run, or one of its steps, has stood.

    ``gate`` is the option that declares it, ``key`` the value of its key as JSON, empty where there is none. ``step``
    is empty for the body. ``passed_at_ms`` 0: it stands there.
    """

    gate: str
    key: str
    step: str
    asked_at_ms: int
    passed_at_ms: int = 0


class StepSeen(msgspec.Struct):
    """A step with its attempts, oldest first.

    ``status``: planned, queued, sleeping, waiting, retrying, parked, held, completed or failed; cancelled where the
    run ended first.

    ``output`` is JSON, empty while there is none; the beginning of ``output_bytes`` where that is not 0.
    ``wake_at_ms``: when a sleep or a wait ends by itself; ``waits_for`` stays when the wait is over. The body of
    the function is the step with an empty id, there only where the body itself failed, was lost, stopped or parked;
    once the run is over it has ended as the run has.
    """

    step: str
    name: str
    kind: str
    status: str
    started_at_ms: int
    ended_at_ms: int = 0
    wake_at_ms: int = 0
    output: bytes = b""
    attempts: list[AttemptSeen] = msgspec.field(default_factory=list)
    output_bytes: int = 0
    waits_for: WaitsFor | None = None

    @property
    def timed_out(self) -> bool:
        """Whether it ended because its time was over, and what it waited for had not come."""
        if self.status != "completed" or not self.output or self.output != kind_of(self.kind).timed_out_result:
            return False
        if self.waits_for is not None and self.waits_for.came:
            return False  # A signal may bring such a value, too.
        return not self.ended_at_ms or self.ended_at_ms >= self.wake_at_ms


COUNTED: Final = ("completed", "failed")
"""How an attempt ends that counts as one: those whose worker died or stopped, or that found no code, do not."""
RUNNING: Final = "Running"
HELD: Final = "Held"
PARKED: Final = "Parked"
WAITING: Final = "Waiting"
_STATE_OF: Final = {
    "planned": RUNNING,
    "retrying": "Retrying",
    "sleeping": "Sleeping",
    "waiting": WAITING,
    "parked": WAITING,
    "held": HELD,
}
STATES: Final = (HELD, PARKED, *dict.fromkeys(state for state in _STATE_OF.values() if state != HELD))
"""What an open run can be shown to do; of several, the first in this order."""
CHANGED: Final = "StepsChanged"
"""The error under which a hand-out shows that was parked because its code has changed."""
CANCELLED: Final = "cancelled"
ENDED: Final = ("completed", "failed", CANCELLED)
"""Statuses of a step that has ended."""


def close(steps: Iterable[StepSeen], status: str, at_ms: int) -> None:
    """The run is over: what of it was still open has ended with it, and nothing is tried again."""
    for step in steps:
        if step.step and step.status in ENDED:
            continue
        step.status, step.ended_at_ms = CANCELLED if step.step else status.lower(), at_ms
        if step.attempts and step.attempts[-1].retry_at_ms > at_ms:
            step.attempts[-1] = replace(step.attempts[-1], retry_at_ms=0)


def attempts_counted(step: StepSeen) -> int:
    """How often a step was tried so far."""
    return sum(attempt.status in COUNTED for attempt in step.attempts)


def state_of(steps: Iterable[StepSeen]) -> str:
    """What a run that is open does: Held, Parked, Running, Retrying, Sleeping, or Waiting.

    Held: it waits for an operator. Parked: its code has changed. Waiting: for an event, a signal, another run, or for
    code that is not here.

    The step that comes first in this order decides. The body's own entry stays as it was when the body goes on, so that
    it counts only where nothing has happened since; but one that is parked or held does not go on.
    """
    steps = tuple(steps)
    newest_ms = max((_newest_ms(step) for step in steps if step.step), default=0)
    stands = ("parked", "held")
    counted = [step for step in steps if step.step or step.status in stands or _newest_ms(step) >= newest_ms]
    found = {PARKED if parked_because(step) else _STATE_OF.get(step.status, "") for step in counted}
    return next((state for state in STATES if state in found), RUNNING)


def parked_because(step: StepSeen) -> str:
    """How the code of a parked step has changed; empty where it is not parked, or its code is just not there."""
    error = step.attempts[-1].error if step.status == "parked" and step.attempts else None
    return error.message if error is not None and error.name == CHANGED else ""


def reason_of(step: StepSeen) -> str:
    """Why a run stands still at this step: how its code has changed, or what held it; empty where it does not."""
    if step.status != "held" or not step.attempts:
        return parked_because(step)
    error = step.attempts[-1].error
    where = f"step {step.step!r}" if step.step else "the function body"
    return f"{where} failed for good: {error.name}: {error.message}" if error is not None else ""


def wakes_at_ms(step: StepSeen) -> int:
    """When an open step goes on by itself: its time comes, or its next attempt; 0 where it waits for no time."""
    if step.status in (*ENDED, "parked", "held"):
        return 0
    return step.wake_at_ms or (step.attempts[-1].retry_at_ms if step.attempts and step.status == "retrying" else 0)


def _newest_ms(step: StepSeen) -> int:
    return max(step.started_at_ms, step.ended_at_ms, *(attempt.ended_at_ms for attempt in step.attempts))


def pack(entries: list[Entry]) -> bytes:
    """Entries in order as bytes."""
    return _encoder.encode(entries)


def read(chunks: Iterable[bytes]) -> list[StepSeen]:
    """The steps of a run, in the order in which they appeared, from its packed lists in order.

    Entries at no time (0) are a checkpoint's: they fill in what nothing else has told.
    """
    reading = _Reading()
    timeless: list[list[Any]] = []
    for chunk in chunks:
        for entry in _decoder.decode(chunk):
            if entry[1]:
                reading.take(entry)
            else:
                timeless.append(entry)
    statuses = {step: seen.status for step, seen in reading.steps.items()}
    for entry in timeless:
        if _fills_in(entry, statuses.get(entry[2])):
            reading.take(entry)
    return list(reading.steps.values())


def gates(chunks: Iterable[bytes]) -> list[GateSeen]:
    """The gates at which a run and its steps have stood, from its packed lists in order."""
    seen: list[GateSeen] = []
    for chunk in chunks:
        for entry in _decoder.decode(chunk):
            match entry:
                case [20, at, step, gate, key]:
                    seen.append(GateSeen(gate, key, step, at))
                case [21, at, step, gate, key]:
                    here = (gate, key, step, 0)
                    for one in seen:
                        if (one.gate, one.key, one.step, one.passed_at_ms) == here:
                            one.passed_at_ms = at
                            break
    return seen


def _fills_in(entry: list[Any], status: str | None) -> bool:
    """Whether a checkpoint's entry says more than what is known of its step (None: nothing)."""
    if status in ("completed", "failed"):
        return False
    return status is None or entry[0] in (CAME, DONE, WOKE, FAILED)


def _began_ms(step: StepSeen, started_ms: int) -> int:
    """When an attempt began; that of a step that waits began with the wait."""
    return step.started_at_ms if step.waits_for is not None else started_ms or step.started_at_ms


def _lost_text(step: str, lost: int) -> str:
    often = "once" if lost == 1 else f"{lost} times"
    what = "this" if step else "the function, and with it the step that was under way (it is listed once it has ended)"
    return f"the process that ran {what} died, {often} so far; it is handed out again"


class _Reading:
    """The fold of a trail. Passes over tags it does not know: a newer version wrote them."""

    def __init__(self) -> None:
        self.steps: dict[str, StepSeen] = {}

    def take(self, entry: list[Any]) -> None:
        at: int = entry[1]
        match entry:
            case [0, _, step, name, kind, attempt, started, data]:
                seen = self._step(step, name, kind, started or at)
                seen.status, seen.ended_at_ms, seen.output = "completed", at, data
                seen.attempts.append(AttemptSeen(attempt, "completed", _began_ms(seen, started), at))
            case [1, _, step, name, kind]:
                self._step(step, name, kind, at)
            case [2, _, step, name, kind, wake_at]:
                seen = self._step(step, name, kind, at)
                seen.status, seen.wake_at_ms = "sleeping", wake_at
            case [3, _, step, kind]:
                seen = self._step(step, step, kind, at)
                seen.status, seen.ended_at_ms = "completed", at
            case [4 | 5 as tag, _, step, name, kind, attempt, started, retry_at, *error]:
                seen = self._step(step, name, kind, started or at)
                was_held, seen.status = seen.status == "held", "retrying" if tag == ERRORED else "failed"
                seen.ended_at_ms = 0 if tag == ERRORED else at
                if was_held:
                    return  # An operator has let it fail; the attempt is there already.
                began_ms = _began_ms(seen, started)
                seen.attempts.append(AttemptSeen(attempt, "failed", began_ms, at, Error(*error), retry_at))
            case [6, _, step, attempt, retry_at, *error]:
                seen = self._step(step, "(function body)", BODY, at)
                seen.status = "retrying"
                seen.attempts.append(AttemptSeen(attempt, "failed", at, at, Error(*error), retry_at))
            case [7, _, step, lost, retry_at]:
                seen = self._step(step, step or "(function body)", EXECUTED if step else BODY, at)
                gone = Error("WorkerLost", _lost_text(step, lost))
                seen.attempts.append(AttemptSeen(len(seen.attempts), "lost", at, at, gone, retry_at))
            case [8, _, step, function, *reason]:
                seen = self._step(step, step or "(function body)", EXECUTED if step else BODY, at)
                seen.status = "parked"
                why = Error("NoCode", f"no worker here has the code of {function}")
                if reason and reason[0]:
                    why = Error(CHANGED, reason[0])
                seen.attempts.append(AttemptSeen(len(seen.attempts), "parked", at, at, why))
            case [9, _, step]:
                seen = self._step(step, step, EXECUTED, at)
                seen.status = "planned"
                if seen.attempts and seen.attempts[-1].status == "parked":
                    seen.attempts[-1] = replace(seen.attempts[-1], ended_at_ms=at)
            case [12, _, step]:
                seen = self._step(step, step or "(function body)", EXECUTED if step else BODY, at)
                seen.status = "planned"
                why = Error(
                    "GivenBack", "its worker stopped it, or begins it afresh, before it ended; it is handed out again"
                )
                seen.attempts.append(AttemptSeen(len(seen.attempts), "stopped", at, at, why))
            case [10, _, step, name, kind, until, awaited]:
                seen = self._step(step, name, kind, at)
                seen.status, seen.wake_at_ms, seen.waits_for = "waiting", until, read_waits_for(awaited)
            case [20, _, step, *_] if step in self.steps:
                self.steps[step].status = "queued"
            case [21, _, step, *_] if step in self.steps:
                self.steps[step].status = "planned"
            case [13, _, step, name, kind, attempt, started, *error]:
                seen = self._step(step, name or "(function body)", kind or BODY, started or at)
                seen.status = "held"
                seen.attempts.append(AttemptSeen(attempt, "failed", started or seen.started_at_ms, at, Error(*error)))
            case [14, _, step]:
                self._step(step, step or "(function body)", EXECUTED if step else BODY, at).status = "planned"
            case [11, _, step, index] if waits := self.steps[step].waits_for if step in self.steps else None:
                if waits.signal:
                    self.steps[step].waits_for = replace(waits, came=True)
                    return
                events = list(waits.events)
                events[index] = replace(events[index], came=True)
                self.steps[step].waits_for = replace(waits, events=tuple(events))

    def _step(self, step: str, name: str, kind: str, started: int) -> StepSeen:
        seen = self.steps.get(step)
        if seen is None:
            seen = self.steps[step] = StepSeen(step, name, kind, "planned", started)
        elif seen.name == step != name:
            seen.name, seen.kind = name, kind  # Named only now: it was lost or parked before it first answered.
        return seen
