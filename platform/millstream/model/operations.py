"""Operations: what an executor reports of a run, several in one report.

They are the opcodes of the SDK protocol in our words, so that a coroutine in this process and an app behind HTTP are
executors of one engine. ``step`` is an opaque id, unique within its run; ``name`` is what people see.

They carry a tag, so that a report can travel between processes (``execute/processes/messages.py``).

Add a step kind: a class here (the branch of the command), its module in ``core/steps/``, one line in
``core/steps/__init__.py``.
"""

from __future__ import annotations

import msgspec

from millstream.model.event import Envelope


class Failure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An exception as data: class name, message and stack as text.

    ``more``  its other members, as UTF-8 JSON of an object (``error_object.more_of``); empty: it has none.
    """

    name: str
    message: str
    stack: str = ""
    more: bytes = b""


class StepDone(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The step ran and returned ``data`` (UTF-8 JSON)."""

    step: str
    name: str
    data: bytes
    started_at_ms: int
    kind: str = "run"


class RetryPolicy(msgspec.Struct, frozen=True, gc=False):
    """How one step is tried again. ``retries`` −1, no ``delays_ms``: as its function has it."""

    retries: int = -1
    delays_ms: tuple[int, ...] = ()
    jitter_ms: int = 0


class StepErrored(msgspec.Struct, frozen=True, gc=False, tag=True):
    """This attempt of the step raised. ``retry_after_ms`` −1: the backoff decides.

    ``retry``     the step's own policy; None: its function's.
    ``is_final``  it would end the same whoever tries it again, so nobody is asked: its body has cancelled it.
    """

    step: str
    name: str
    failure: Failure
    started_at_ms: int
    retriable: bool = True
    retry_after_ms: int = -1
    retry: RetryPolicy | None = None
    is_final: bool = False


class StepFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants this step run, beside others: hand it out on its own (StepPlanned in the SDK protocol)."""

    step: str
    name: str


class SleepFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants to sleep: for ``length_ms``, or until ``until_ms`` where that is not −1."""

    step: str
    name: str
    length_ms: int = 0
    until_ms: int = -1


class SendFound(msgspec.Struct, frozen=True, tag=True):
    """The body wants these events sent to the events topic; ids are filled in by the core."""

    step: str
    name: str
    events: tuple[Envelope, ...]


class PublishFound(msgspec.Struct, frozen=True, tag=True):
    """The body wants a record in a Kafka topic."""

    step: str
    name: str
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Condition(msgspec.Struct, frozen=True, gc=False):
    """An event that is waited for.

    ``match``       a path that must hold the same value in it and in the run's own event, such as ``data.order_id``.
    ``expression``  CEL over ``event``, the run's own, and ``async``, the one that comes.
    """

    event: str
    match: str = ""
    expression: str = ""


class WaitFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants to wait for events: for the first that meets one of the conditions, or for one of each.

    ``lookback_ms``  how far back events count, from now; −1: those received since the run's own event.
    """

    step: str
    name: str
    conditions: tuple[Condition, ...]
    timeout_ms: int
    is_all: bool = False
    lookback_ms: int = -1


class SignalWaitFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants to wait for a signal. ``replaces``: a run that waits for it already gets it no more."""

    step: str
    name: str
    signal: str
    timeout_ms: int
    replaces: bool = False


class InvokeFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants a run of another function, and its result.

    ``data``   UTF-8 JSON of an object.
    ``meta``   likewise, or empty; ``v``: of the event that the run starts on, carried along untouched.
    """

    step: str
    name: str
    function: str
    data: bytes
    timeout_ms: int
    is_detached: bool = False
    meta: bytes = b""
    v: str = ""


class CallbackFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants a callback: a URL that takes one post, for so long."""

    step: str
    name: str
    timeout_ms: int


class PostWaitFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants what is posted to a callback of its own. ``callback``: the step that has made it."""

    step: str
    name: str
    callback: str


class GatewayFound(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body wants an HTTP request made for it: by the executor, which has nothing of the app's to run meanwhile.

    ``request``  what to send, UTF-8 JSON of an object: the SDK's own words (``opts``), which the executor reads.
    ``kind``     gateway, or ai_gateway: a request to a model's provider.
    """

    step: str
    name: str
    request: bytes
    kind: str = "gateway"


class BodyDone(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The handler returned ``result`` (UTF-8 JSON)."""

    result: bytes


class BodyErrored(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The handler raised outside a step. ``retry_after_ms`` −1: the function's backoff decides.

    ``is_final``  it would end the same whoever tries it again, so nobody is asked: a step of it has failed.
    """

    failure: Failure
    retriable: bool = True
    retry_after_ms: int = -1
    is_final: bool = False


Operation = (
    StepDone
    | StepErrored
    | StepFound
    | SleepFound
    | SendFound
    | PublishFound
    | BodyDone
    | BodyErrored
    | WaitFound
    | SignalWaitFound
    | InvokeFound
    | CallbackFound
    | PostWaitFound
    | GatewayFound
)


def failure_json(name: str, message: str, stack: str, more: bytes = b"") -> bytes:
    """A Failure as it rests in a FAILED step's row."""
    return msgspec.json.encode(Failure(name, message, stack, more))


_FAILURE = msgspec.json.Decoder(Failure)


def failure_of(data: bytes) -> Failure:
    """The Failure that ``failure_json`` wrote."""
    return _FAILURE.decode(data)
