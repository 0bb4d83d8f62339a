"""The home of a signal: which step waits for it, one at a time, and who sends it."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.core.handles import Handles
from millstream.core.messages import MessageKind
from millstream.core.requests import answer
from millstream.core.tables import Tables
from millstream.model.commands import AwaitSignal, ForgetSignal, NothingCame, SendSignal, SignalCame
from millstream.model.effects import Effect
from millstream.model.facts import Fact, Post, SignalAwaited, SignalGone
from millstream.model.ids import home_of, lane_of
from millstream.model.rows import SignalRow


def await_signal(tables: Tables, command: AwaitSignal, now_ms: int) -> list[Fact]:
    """A step waits for the signal. Where another waits already, this one is refused or takes its place.

    One whose place was taken waits on until its time is over: nobody can reach it any more.
    """
    held = tables.signals.get(command.signal)
    if held is not None and not command.replaces:
        reason = (
            f"step {command.step!r} cannot wait for the signal {command.signal!r}: run {held.run} waits for it at step "
            f"{held.step!r}, and a signal reaches one run. Name it otherwise, or wait with on_conflict='replace'."
        )
        return [Post(_lane(tables, command.run), SignalCame(command.run, command.step, b"", reason))]
    return [SignalAwaited(command.signal, command.run, command.step)]


def forget(tables: Tables, command: ForgetSignal, now_ms: int) -> list[Fact]:
    """A step waits for it no more."""
    held = tables.signals.get(command.signal)
    facts: list[Fact] = []
    if held is not None and (held.run, held.step) == (command.run, command.step):
        facts.append(SignalGone(command.signal))
    if command.is_answered:
        facts.append(Post(_lane(tables, command.run), NothingCame(command.run, command.step, 0)))
    return facts


def send(tables: Tables, command: SendSignal, now_ms: int) -> list[Fact]:
    """Somebody sends it: to the step that waits for it now."""
    held = tables.signals.get(command.signal)
    if held is None:
        return answer(command, {"status": "not_awaited", "signal": command.signal})
    came = SignalCame(held.run, held.step, command.data)
    return [
        SignalGone(command.signal),
        Post(_lane(tables, held.run), came),
        *answer(command, {"status": "sent", "run": held.run}),
    ]


def _lane(tables: Tables, run: str) -> int:
    return lane_of(run, tables.place.lanes)


def _home(tables: Tables, message: AwaitSignal | ForgetSignal | SendSignal) -> int:
    return home_of(message.signal, tables.place.lanes)


AWAIT_SIGNAL = MessageKind(message=AwaitSignal, decide=await_signal, home=_home, answers=False)
FORGET_SIGNAL = MessageKind(message=ForgetSignal, decide=forget, home=_home, answers=False)
SEND_SIGNAL = MessageKind(message=SendSignal, decide=send, home=_home)


# --- fold -----------------------------------------------------------------------------------------


def signal_awaited(tables: Tables, f: SignalAwaited, at_ms: int) -> Sequence[Effect]:
    """A step waits for it."""
    tables.signals.put(f.signal, SignalRow(f.signal, f.run, f.step))
    return ()


def signal_gone(tables: Tables, f: SignalGone, at_ms: int) -> Sequence[Effect]:
    """Nobody does any more."""
    tables.signals.delete(f.signal)
    return ()


HANDLES = Handles(facts={SignalAwaited: signal_awaited, SignalGone: signal_gone})
