"""What is executing right now: ``millstream.current()``, from anywhere below a handler or a step, threads included."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec

from millstream.errors import FunctionError


class Current(msgspec.Struct, frozen=True, gc=False):
    """The run, step and attempt this code executes for. ``step`` is empty between steps."""

    run_id: str
    step: str
    attempt: int

    @property
    def idempotency_key(self) -> str:
        """The same over all attempts of this step and of no other: give it to services that deduplicate."""
        return f"{self.run_id}:{self.step}"


CURRENT: ContextVar[Current | None] = ContextVar("millstream_current", default=None)


def current() -> Current:
    """What executes right now. Raises FunctionError outside of a function that millstream runs."""
    found = CURRENT.get()
    if found is None:
        raise FunctionError(
            "millstream.current() was called outside of a run: it is known in handlers and steps that millstream runs."
        )
    return found
