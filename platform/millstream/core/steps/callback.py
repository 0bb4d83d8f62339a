"""``step.callback``: a URL of the run's own that takes one post from outside.

CallbackFound   ─> StepCompleted, CallbackOpened: the step is done at once, and its row holds what comes of the URL
ResolveCallback ─> CallbackUsed: the posted body is kept in that row, or the step that waits for it has it
                   (``core/steps/callback_post.py``)

The result that stands in the history is the callback's id. Its URL, which is the right to post, reaches the body alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core.messages import MessageKind
from millstream.core.requests import answer
from millstream.core.runs.awaiting import too_long
from millstream.core.runs.closing import close_step
from millstream.core.runs.deciding import Case, Decided, Draft, is_resolved
from millstream.core.runs.hands import open_run, open_step, put_run, put_step
from millstream.core.runs.moves import Move, Moves
from millstream.core.runs.resolving import complete, fail_step, is_completed
from millstream.core.step_kinds import StepKind
from millstream.core.tables import Tables
from millstream.model import limits
from millstream.model.commands import ResolveCallback
from millstream.model.effects import Effect
from millstream.model.facts import CallbackOpened, CallbackUsed, Fact, StepCompleted, StepFailed
from millstream.model.ids import lane_of
from millstream.model.operations import CallbackFound
from millstream.model.rows import Hand, RunRow, StepRow
from millstream.model.waits.awaited import AwaitedCallback, AwaitedPost
from millstream.model.waits.callback_token import callback_id, callback_url, mark_of

NAME: Final = "callback"
NO_URL: Final = "CallbackUrlUnknown"


def found(case: Case, draft: Draft, op: CallbackFound) -> Decided:
    """The body wants a callback."""
    if op.timeout_ms > limits.WAIT_MS_MAX:
        return fail_step(draft, too_long(case, op, NAME))
    run, place = case.run.run, case.tables.place
    if not place.public_url or not place.callback_key:
        message = (
            f"step {op.step!r} cannot make a callback: expected the address at which others reach this server, got "
            "none. Start it with --public-url https://hooks.example.com, or MILLSTREAM_PUBLIC_URL; on Kafka, every "
            "worker."
        )
        return fail_step(
            draft,
            StepFailed(run, op.step, op.name, NAME, 0, case.dispatch, NO_URL, message, "", case.now_ms, False),
        )
    id = callback_id(run, op.step)
    shown = _result({"id": id})
    decided = complete(
        case, draft, StepCompleted(run, op.step, op.name, NAME, 0, case.dispatch, shown, case.now_ms, False)
    )
    if not is_completed(decided):
        return decided
    url = callback_url(place.public_url, place.callback_key, id)
    opened = CallbackOpened(run, op.step, url, case.now_ms + max(op.timeout_ms, 0))
    return (*decided[0], opened), replace(decided[1], bytes=decided[1].bytes + len(url))


def resolve(tables: Tables, command: ResolveCallback, now_ms: int) -> list[Fact]:
    """Somebody has posted: the first, in time, is taken."""
    run = tables.runs.get(command.run)
    row = _marked(tables, run, command.mark) if run is not None else None
    if run is None or row is None:
        return answer(command, {"status": "over"})
    holds = row.awaits
    assert isinstance(holds, AwaitedPost), "looked for"
    if holds.is_used:
        return answer(command, {"status": "used"})
    if now_ms >= holds.until_ms:
        return answer(command, {"status": "expired"})
    if run.bytes + len(command.data) > limits.RUN_STATE_BYTES_MAX:
        return answer(command, {"status": "no_room"})
    told = answer(command, {"status": "taken", "run": run.run})
    waiting = list(_waiting(tables, run, row.step))
    if not waiting:
        return [CallbackUsed(run.run, row.step, command.data, ""), *told]
    case = Case(tables, run, 0, now_ms)
    facts: list[Fact] = [CallbackUsed(run.run, row.step, b"", waiting[0].step)]
    draft = Draft.of(run)
    for one in waiting:
        fact = StepCompleted(run.run, one.step, one.name, one.kind, 0, 0, command.data, now_ms, False)
        more, draft = complete(case, draft, fact)
        facts += more
    return [*close_step(case, facts, draft), *told]


def _marked(tables: Tables, run: RunRow, mark: str) -> StepRow | None:
    """The step whose callback it is; None where the run has no such step, or has failed at it."""
    for step in run.steps:
        if mark_of(step) == mark:
            row = tables.steps.get((run.run, step))
            return row if row is not None and isinstance(row.awaits, AwaitedPost) else None
    return None


def _waiting(tables: Tables, run: RunRow, callback: str) -> Iterator[StepRow]:
    """The steps that wait for the post; the newest steps are looked at first, and no more than are open."""
    left = run.pending
    for step in reversed(run.steps):
        if not left:
            return
        row = tables.steps.get((run.run, step))
        if row is None or is_resolved(row):
            continue
        left -= 1
        if row.hand == Hand.WAITING and isinstance(row.awaits, AwaitedCallback) and row.awaits.callback == callback:
            yield row


def _result(fields: dict[str, str]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _home(tables: Tables, message: ResolveCallback) -> int:
    return lane_of(message.run, tables.place.lanes)


RESOLVE_CALLBACK: Final = MessageKind(message=ResolveCallback, decide=resolve, home=_home)


# --- fold -----------------------------------------------------------------------------------------


def callback_opened(tables: Tables, f: CallbackOpened, at_ms: int) -> Sequence[Effect]:
    """Its result, for the body, has the URL as well."""
    run, row = open_run(tables, f.run), open_step(tables, f.run, f.step)
    data = _result({"id": callback_id(f.run, f.step), "url": f.url})
    put_step(tables, row, data=data, awaits=AwaitedPost(f.until_ms))
    put_run(tables, run, bytes=run.bytes + len(data) - len(row.data))
    return ()


def callback_used(tables: Tables, f: CallbackUsed, at_ms: int) -> Sequence[Effect]:
    """It takes no other post."""
    run, row = open_run(tables, f.run), open_step(tables, f.run, f.step)
    holds = row.awaits
    assert isinstance(holds, AwaitedPost), f"step {f.step} of run {f.run} has made no callback"
    put_step(tables, row, awaits=AwaitedPost(holds.until_ms, f.data, f.taken_by))
    put_run(tables, run, bytes=run.bytes + len(f.data) - len(holds.data))
    return ()


def without_url(row: StepRow) -> bytes:
    """The result as people see it."""
    return _result({"id": callback_id(row.run, row.step)})


KIND: Final = StepKind(
    name=NAME,
    finds={CallbackFound: found},
    facts={CallbackOpened: callback_opened, CallbackUsed: callback_used},
    moves=Moves(
        step=(Move(Hand.DONE, CallbackOpened, Hand.DONE), Move(Hand.DONE, CallbackUsed, Hand.DONE)),
        run_fields={CallbackOpened: frozenset({"bytes"}), CallbackUsed: frozenset({"bytes"})},
        step_fields={CallbackOpened: frozenset({"data", "awaits"}), CallbackUsed: frozenset({"awaits"})},
    ),
    shows_result=without_url,
)
