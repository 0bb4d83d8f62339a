"""``millstream topics plan | apply``: the topics a group needs, made or mended; and who must be allowed what.

    plan    says what would be done, and what nobody can do          exit code 6 when something is unsafe
    apply   creates what is missing; with --yes alters settings too   exit code 6 when something unsafe is left

Nothing is deleted, nothing shrinks, and doing it twice does nothing the second time: deployments may run it every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from millstream.cli.support.exits import CHECK_FAILED, FAILED, OK, note
from millstream.cli.support.kafka_group import kafka_of, shape_of, unsaid
from millstream.cli.support.output import chosen, show_rows
from millstream.config import Settings
from millstream.log.kafka.admin.acls import Besides, accesses
from millstream.log.kafka.admin.client import Admin
from millstream.log.kafka.admin.topics import CHANGE, CREATE, LEAVE, Step, apply, plan, problems, shape_found

COLUMNS: Final = ("action", "about", "name", "setting", "found", "wanted", "why")
ACL_COLUMNS: Final = ("role", "kind", "name", "pattern", "operations", "why")


def show_plan(settings: Settings) -> int:
    """Print what differs; nothing when nothing does."""
    admin = Admin(kafka_of(settings))
    shape = shape_found(admin, shape_of(settings), unsaid(settings))
    steps = plan(admin, shape, accept_loss=settings.switch("accept_loss"))
    show_rows(settings, map(_row, steps), COLUMNS)
    if not steps:
        note("every topic is as it must be")
    return _verdict([step for step in steps if step.action not in (CREATE, CHANGE)])


def show_acls(settings: Settings, sources: Sequence[str], targets: Sequence[str]) -> int:
    """Print what each role must be allowed: commands for people, rows for programs."""
    besides = Besides(sources=tuple(sources), targets=tuple(targets), client_id=settings.text("client_id"))
    found = accesses(shape_of(settings), besides)
    if chosen(settings) == "table":
        role = ""
        for access in found:
            if access.role != role:
                role = access.role
                print(f"# {role}: the user it logs in as stands for User:{role}")
            print(access.command(settings.text("brokers")) + f"  # {access.why}")
        return OK
    rows = (
        {
            "role": access.role,
            "kind": access.kind,
            "name": access.name,
            "pattern": "prefixed" if access.prefixed else "literal",
            "operations": list(access.operations),
            "why": access.why,
            "command": access.command(settings.text("brokers")),
        }
        for access in found
    )
    show_rows(settings, rows, ACL_COLUMNS)
    return OK


def carry_out(settings: Settings, *, yes: bool, dry_run: bool) -> int:
    """Do what is safe. Settings of topics that exist are altered with ``yes`` only."""
    if dry_run:
        return show_plan(settings)
    admin = Admin(kafka_of(settings))
    shape = shape_found(admin, shape_of(settings), unsaid(settings))
    steps = plan(admin, shape, accept_loss=settings.switch("accept_loss"))
    held = [step for step in steps if step.action == CHANGE and not yes]
    done = apply(admin, shape, [step for step in steps if step not in held])
    show_rows(settings, ({**_row(step), "outcome": outcome} for step, outcome in done), (*COLUMNS, "outcome"))
    for step in held:
        note(f"not done without --yes: {step}")
    if not steps:
        note("every topic is as it must be")
    if any(step.about == "topic" and outcome.startswith("failed") for step, outcome in done):
        return FAILED
    return _verdict([*held, *(step for step, outcome in done if outcome != "done" and step.action != LEAVE)])


def _verdict(left: Sequence[Step]) -> int:
    """6 when a worker would refuse to start on what is left."""
    remaining = problems(left)
    for problem in remaining:
        note(problem)
    return CHECK_FAILED if remaining else OK


def _row(step: Step) -> dict[str, Any]:
    return {
        "action": step.action,
        "about": step.about,
        "name": step.name,
        "setting": step.setting,
        "found": step.found,
        "wanted": step.wanted,
        "why": step.why,
        "todo": step.todo,
    }
