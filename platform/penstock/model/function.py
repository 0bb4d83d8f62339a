"""Functions and apps as the engine knows them: what was registered, not the code itself."""

from __future__ import annotations

import msgspec

from penstock.errors import FunctionError
from penstock.model import limits


class EventTrigger(msgspec.Struct, frozen=True, gc=False, tag="event"):
    """Start on events of this name (``a/*`` and ``a/b.*`` match at segment ends) whose ``expression`` holds."""

    event: str
    expression: str = ""

    def __post_init__(self) -> None:
        if not self.event or len(self.event) > limits.TRIGGER_NAME_CHARS_MAX:
            raise FunctionError(
                f"event trigger refused: the name must have 1 to {limits.TRIGGER_NAME_CHARS_MAX} characters, "
                f"got {len(self.event)}. Give the function the name of the events it should start on."
            )


class CronTrigger(msgspec.Struct, frozen=True, gc=False, tag="cron"):
    """Start at times: five fields, optionally after ``TZ=Europe/Paris ``."""

    cron: str


Trigger = EventTrigger | CronTrigger


class Backoff(msgspec.Struct, frozen=True, gc=False):
    """The delays between attempts. ``delays_ms[n]`` comes before attempt n + 1; the last one repeats.

    ``jitter_ms`` is added, derived from the run and the attempt, so that a decision can be made again.
    """

    delays_ms: tuple[int, ...]
    jitter_ms: int = 0

    def __post_init__(self) -> None:
        if not self.delays_ms or min(self.delays_ms) < 0 or self.jitter_ms < 0:
            raise FunctionError(
                f"backoff refused: expected at least one delay and none negative, got {self.delays_ms!r} "
                f"with jitter {self.jitter_ms!r} ms."
            )


DEFAULT_BACKOFF = Backoff(
    delays_ms=tuple(1000 * s for s in (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200)), jitter_ms=30_000
)


class FunctionSpec(msgspec.Struct, frozen=True):
    """One function of an app, as registered.

    ``slug`` is ``<app>-<id>`` and names the function everywhere. ``retries`` counts attempts after the first,
    for each step and for the body. ``step_timeout_ms`` bounds one attempt.
    """

    slug: str
    name: str
    triggers: tuple[Trigger, ...] = ()
    retries: int = limits.RETRIES_DEFAULT
    backoff: Backoff = DEFAULT_BACKOFF
    step_timeout_ms: int = 2 * limits.HOUR_MS

    def __post_init__(self) -> None:
        if len(self.triggers) > limits.TRIGGERS_PER_FUNCTION_MAX:
            raise FunctionError(
                f"function {self.slug!r} refused: at most {limits.TRIGGERS_PER_FUNCTION_MAX} triggers, "
                f"got {len(self.triggers)}. Split the function, or use a wildcard trigger."
            )
        if not 0 <= self.retries <= limits.RETRIES_MAX:
            raise FunctionError(
                f"function {self.slug!r} refused: retries must be 0 to {limits.RETRIES_MAX}, got {self.retries}."
            )


class AppSpec(msgspec.Struct, frozen=True):
    """The functions one team deploys together. ``endpoint`` is empty for code that runs in the worker itself."""

    id: str
    functions: tuple[FunctionSpec, ...]
    endpoint: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if len(self.functions) > limits.FUNCTIONS_PER_APP_MAX:
            raise FunctionError(
                f"app {self.id!r} refused: at most {limits.FUNCTIONS_PER_APP_MAX} functions, got {len(self.functions)}."
            )
        slugs = [f.slug for f in self.functions]
        twice = sorted({s for s in slugs if slugs.count(s) > 1})
        if twice:
            raise FunctionError(f"app {self.id!r} refused: two functions have the id {twice[0]!r}. Rename one of them.")


def encode_app_spec(app: AppSpec) -> bytes:
    """The AppSpec as JSON; equal specs give equal bytes."""
    return msgspec.json.encode(app, order="sorted")


_DECODER = msgspec.json.Decoder(AppSpec)


def decode_app_spec(data: bytes) -> AppSpec:
    """The AppSpec of ``encode_app_spec``'s bytes. Raises FunctionError when they are something else."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise FunctionError(f"app refused: expected the JSON of an app, got {data[:200]!r}: {error}") from error
