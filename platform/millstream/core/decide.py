"""``decide(tables, command, now_ms) -> facts``: what a command leads to. Reads the tables, changes nothing.

The same tables, command and time always give the same facts: no clock, no randomness, no I/O (a test sees to it). An
empty answer says the command changes nothing: it came late, or twice.

It only dispatches: what a command or timer leads to is in the module of its noun (``nouns.py``).
"""

from __future__ import annotations

from millstream.core.handles import refuse_plainly
from millstream.core.nouns import DECIDE, FIRE, REFUSE
from millstream.core.runs.ending import refuse_run_timer
from millstream.core.tables import Tables
from millstream.errors import StoreFailed
from millstream.model import limits
from millstream.model.commands import Command, FireTimer
from millstream.model.facts import Fact
from millstream.model.text.storable import storable


def decide(tables: Tables, command: Command, now_ms: int) -> list[Fact]:
    """Decide; a command that cannot be decided is refused, named and kept, and the lane goes on (lanes.md rule 22).

    What remains of one that raised is a fact that says so, and nothing left hanging: an event goes to the dead letters,
    a request is answered, a message counts as taken, a run about which nothing can be decided fails, a cron fires no
    more.
    """
    try:
        if type(command) is FireTimer:
            return _fire(tables, command, now_ms)
        return DECIDE[type(command)](tables, command, now_ms)
    except StoreFailed:
        raise  # It says nothing of the command, which is decided when the tables can be read again.
    except Exception as error:
        return refuse(tables, command, error, now_ms)


def _fire(tables: Tables, command: FireTimer, now_ms: int) -> list[Fact]:
    if tables.timers.get((command.at_ms, command.kind, command.id, command.step)) is None:
        return []  # It was disarmed, or has fired already.
    return FIRE[command.kind].decide(tables, command, now_ms)


def refuse(tables: Tables, command: Command, error: Exception, now_ms: int) -> list[Fact]:
    """What remains of a command that cannot be decided, or whose facts cannot be recorded."""
    reason = storable(f"{type(error).__name__}: {error}", limits.ERROR_MESSAGE_CHARS_MAX)
    if isinstance(command, FireTimer):
        handler = FIRE.get(command.kind)
        if handler is None:  # A kind of a newer version: of a run, or nothing can be said of it.
            return refuse_run_timer(tables, command, reason, now_ms)
        remains = handler.refuse
    else:
        remains = REFUSE.get(type(command), refuse_plainly)
    return remains(tables, command, reason, now_ms)
