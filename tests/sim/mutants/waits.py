"""Faults in waiting (lanes.md rule 31): no wait is lost, none is resolved twice, none ends too early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from millstream.core import decide as core_decide
from millstream.core import fold as core_fold
from millstream.core import messages
from millstream.core.messages import MessageKind
from millstream.core.runs import ending
from millstream.core.steps import callback, wait_for_event
from millstream.core.waits import coverage, homes
from millstream.lane.input import sources
from millstream.model.commands import EventsSought, SeekEvents
from millstream.model.facts import CallbackUsed, InterestSeen, Post
from millstream.model.waits.awaited import AwaitedPost
from tests.core.test_waits_decided import nothing_comes_before_every_lane_has_looked
from tests.sim.mutants.mutant import Mutant, Patch


def _forget_an_interest(patch: Patch) -> None:
    def seen(lane_tables: Any, fact: Any, at_ms: int) -> Sequence[Any]:
        return ()

    patch.set(core_fold.FOLD, InterestSeen, seen)  # type: ignore[arg-type]


def _skip_the_scan(patch: Patch) -> None:
    def seek(tables: Any, command: Any, now_ms: int) -> list[Any]:
        sought = EventsSought(command.event, command.path, tables.place.lane, command.seek)
        return [InterestSeen(command.event, command.path, command.home), Post(command.home, sought)]

    kind = MessageKind(message=SeekEvents, decide=seek, answers=False)
    patch.set(messages.MESSAGES, SeekEvents, kind)
    patch.set(core_decide.DECIDE, SeekEvents, kind.receive)


def _look_at_nothing_kept(patch: Patch) -> None:
    patch.set(homes, "_look", lambda tables, waiter: (None, (0, "")))


def _pass_over_awaited_names(patch: Patch) -> None:
    patch.set(sources.Intake, "_is_heeded", lambda self, catalogue, name: bool(catalogue.subscriptions(name)))


def _take_an_event_again(patch: Patch) -> None:
    patch.set(wait_for_event, "taken_by", lambda taken, condition: b"")


def _end_too_early(patch: Patch) -> None:
    patch.set(coverage, "is_covered", lambda tables, waiter: True)


def _keep_a_waiter_that_was_met(patch: Patch) -> None:
    """One event resolves it, and so does the next."""
    real = homes._meet

    def meet(*given: Any) -> Any:
        facts, behind = real(*given)
        return [fact for fact in facts if type(fact) is Post], behind

    patch.set(homes, "_meet", meet)


def _tell_no_parent(patch: Patch) -> None:
    patch.set(ending, "waits_for", lambda cause: None)


def _forget_to_withdraw(patch: Patch) -> None:
    patch.set(ending, "_withdrawn", lambda case, fact: iter(()))


def _take_a_second_post(patch: Patch) -> None:
    patch.set(AwaitedPost, "is_used", property(lambda self: False))


def _keep_no_post(patch: Patch) -> None:
    """One that comes before anybody waits for it is taken, and gone."""
    real = core_fold.FOLD[CallbackUsed]

    def used(tables: Any, fact: Any, at_ms: int) -> Sequence[Any]:
        effects = real(tables, fact, at_ms)
        row = tables.steps.get((fact.run, fact.step))
        tables.steps.put((fact.run, fact.step), replace(row, awaits=replace(row.awaits, data=b"")))
        return effects

    patch.set(core_fold.FOLD, CallbackUsed, used)  # type: ignore[arg-type]


def _leave_who_waits_for_a_post(patch: Patch) -> None:
    patch.set(callback, "_waiting", lambda tables, run, made: iter(()))


MUTANTS: tuple[Mutant, ...] = (
    Mutant("forget an interest", "31", _forget_an_interest),
    Mutant("skip the scan of a first wait", "31", _skip_the_scan),
    Mutant("look at nothing that is kept", "31", _look_at_nothing_kept),
    Mutant("pass over names that are awaited", "31", _pass_over_awaited_names),
    Mutant("take an event again", "31", _take_an_event_again),
    Mutant("end a wait before every lane has looked", "31", _end_too_early, nothing_comes_before_every_lane_has_looked),
    Mutant("keep a waiter that was met", "31", _keep_a_waiter_that_was_met),
    Mutant("tell no parent", "32", _tell_no_parent),
    Mutant("forget to withdraw a wait", "31", _forget_to_withdraw),
    Mutant("take a second post", "34", _take_a_second_post),
    Mutant("keep no post", "34", _keep_no_post),
    Mutant("leave who waits for a post", "34", _leave_who_waits_for_a_post),
)
