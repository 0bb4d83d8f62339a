"""A step that is one HTTP request, made by the executor for the app: ``step.fetch`` and ``step.ai.infer`` of the SDKs.

GatewayFound ─> GatewayPlanned: handed out on its own, as a step that runs; its row's ``data`` is the request
StepDone     ─> StepCompleted with what was answered           StepErrored ─> as of a step that runs, retries and all

The app holds no connection meanwhile. What is sent, and what of the answer is the result, the executor knows; here it
is a step that executes: it counts at the gates, is lost, parked, held and tried again like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from millstream.core.runs.deciding import Case, Decided, Draft
from millstream.core.runs.hands import QUEUED, answered, hand_out_new_step, open_run
from millstream.core.runs.moves import ANSWERED, FOUND, Move, Moves
from millstream.core.runs.resolving import fail_step, too_much_state
from millstream.core.step_kinds import StepKind
from millstream.core.steps import run
from millstream.core.tables import Tables
from millstream.model import limits, trail
from millstream.model.effects import Effect
from millstream.model.facts import GatewayPlanned, StepFailed
from millstream.model.operations import GatewayFound
from millstream.model.rows import Hand, StepRow
from millstream.model.trail import Entry

NAME: Final = "gateway"
AI_NAME: Final = "ai_gateway"
TOO_LARGE: Final = "request_too_large"


def found(case: Case, draft: Draft, op: GatewayFound) -> Decided:
    """The body wants a request made."""
    assert op.kind in (NAME, AI_NAME), f"expected a step of kind {NAME} or {AI_NAME}, got {op.kind!r}"
    size, run_id = len(op.request), case.run.run
    if size > limits.GATEWAY_REQUEST_BYTES_MAX:
        message = (
            f"the request of step {op.step!r} was refused: at most {limits.GATEWAY_REQUEST_BYTES_MAX} bytes, got "
            f"{size}. Send it in a step of your own, step.run."
        )
        failed = StepFailed(
            run_id, op.step, op.name, op.kind, 0, case.dispatch, TOO_LARGE, message, "", case.now_ms, False
        )
        return fail_step(draft, failed)
    held = draft.bytes + size
    if held > limits.RUN_STATE_BYTES_MAX:
        return too_much_state(case, draft, op.step, held)
    planned = GatewayPlanned(run_id, op.step, op.name, op.kind, case.dispatch, op.request)
    return (planned,), replace(draft, bytes=held)


# --- fold -----------------------------------------------------------------------------------------


def gateway_planned(tables: Tables, f: GatewayPlanned, at_ms: int) -> Sequence[Effect]:
    """It goes out; until it is resolved the run holds its request."""
    found_by = answered(open_run(tables, f.run), f.dispatch)
    row = StepRow(f.run, f.step, f.name, f.kind, QUEUED, data=f.request)
    return hand_out_new_step(tables, found_by, row, bytes=found_by.bytes + len(f.request))


# --- history --------------------------------------------------------------------------------------


def show_planned(f: GatewayPlanned, at_ms: int) -> Entry:
    """Planned. The request may hold keys: it is not shown."""
    return (trail.PLANNED, at_ms, f.step, f.name, f.kind)


KIND: Final = StepKind(
    name=NAME,
    finds={GatewayFound: found},
    facts={GatewayPlanned: gateway_planned},
    moves=Moves(
        body=(Move(Hand.OUT, GatewayPlanned, Hand.IDLE),),
        step=(Move(None, GatewayPlanned, Hand.OUT), Move(None, GatewayPlanned, Hand.QUEUED)),
        run_fields={GatewayPlanned: ANSWERED | FOUND | {"dispatch", "bytes"}},
    ),
    hands=run.KIND.hands,
    shows={GatewayPlanned: show_planned},
)
AI_KIND: Final = StepKind(name=AI_NAME, hands=run.KIND.hands)
"""The same under its own name: everything else of it is above."""
