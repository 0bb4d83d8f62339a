"""The plan of a group's topics against those that are there: to create, to change, and what cannot be changed.

    plan(admin, shape)    a line for each topic and setting that is not as it must be
    apply(admin, steps)   do what is safe: create, add partitions where that is harmless, alter settings
    problems(steps)       what a worker refuses to start on, in words (lanes.md rule 16)

    action    meaning                                                        apply
    create    the topic is not there                                         creates it
    change    a setting differs                                              alters it
    unsafe    it differs, and altering it could lose or reorder records      refuses: says what to do
    leave     the events topic, which belongs to its owner, differs          leaves it

Nothing is ever deleted and nothing shrinks. What a topic must be is data in ``wants.py``. Every call blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from millstream.errors import MillstreamError, NotAllowed, OperatorError
from millstream.log.group_topics import OF_LANES, GroupShape, role_of, topics_of
from millstream.log.kafka.admin.client import Admin, TopicFound
from millstream.log.kafka.admin.wants import STATE, Safety, Want, made_with, wants
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import TopicSpec
from millstream.model.messages import group_topic

CREATE: Final = "create"
CHANGE: Final = "change"
UNSAFE: Final = "unsafe"
LEAVE: Final = "leave"
SESSION: Final = "consumer.session.timeout.ms"
HEARTBEAT: Final = "consumer.heartbeat.interval.ms"
HEARTBEATS_PER_SESSION: Final = 12
"""Members hear of lanes that are theirs now with their next heartbeat: each is a part of every hand-over."""
BROKER_SESSION_MIN: Final = "group.consumer.min.session.timeout.ms"
BROKER_HEARTBEAT_MIN: Final = "group.consumer.min.heartbeat.interval.ms"


HOLDS_RUNS: Final = ("journal", "inbox")
LOST_TOPIC: Final = (
    "Stop the workers and bring it back from a backup. A new one would be empty: events that are still held start "
    "their functions again, and what runs had done is forgotten. If there is no backup: millstream topics apply "
    "--accept-loss makes it, and workers go on once they are started with --accept-loss, too."
)
LOST_ROWS: Final = (
    "Bring it back from a backup, or make it with: millstream topics apply --accept-loss. Workers whose disks are "
    "whole write its rows again; a lane without one cannot be restored."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One difference. ``why``: what goes wrong; empty: it only costs. ``todo``: for what ``apply`` does not do."""

    action: str
    about: str  # "topic" or "group"
    name: str
    setting: str = ""
    found: str = ""
    wanted: str = ""
    why: str = ""
    todo: str = ""

    def __str__(self) -> str:
        where = f"{self.about} {self.name!r}"
        if self.action == CREATE:
            return f"{where} is not there"
        text = f"{where}: {self.setting} is {self.found}, expected {self.wanted}"
        return text + (f": {self.why}" if self.why else "")


def plan(admin: Admin, shape: GroupShape, *, accept_loss: bool = False) -> list[Step]:
    """Every difference between what is there and what must be. Empty: all is well."""
    return [*topic_steps(admin, shape, accept_loss=accept_loss), *group_steps(admin, shape.group)]


def shape_found(admin: Admin, shape: GroupShape, unsaid: Collection[str]) -> GroupShape:
    """The shape, with what nobody has said (``lanes``, ``apis``) as the group's topics have it, where they are there.

    The number of lanes is fixed with the group: held against any other, every topic of it would be wrong.
    """
    lanes, apis = shape.lanes, shape.apis
    if "lanes" in unsaid:
        lanes = next((found for which in OF_LANES if (found := _partitions(admin, shape, which))), lanes)
    if "apis" in unsaid:
        apis = _partitions(admin, shape, "replies") or apis
    return replace(shape, lanes=lanes, apis=apis)


def _partitions(admin: Admin, shape: GroupShape, which: str) -> int:
    """Of a topic of the group; 0 where it is not there, or this user may not see it."""
    name = group_topic(shape.group, which)
    with suppress(NotAllowed):
        there = admin.topics([name]).get(name)
        return there.partitions if there is not None else 0
    return 0


def topic_steps(
    admin: Admin, shape: GroupShape, seen: Collection[str] = (), *, accept_loss: bool = False
) -> list[Step]:
    """The differences of topics; of those in ``seen`` only, for a user who may see no others. Empty: of all.

    A topic that a group has lost is not made anew unless the loss is accepted.
    """
    specs = [spec for spec in topics_of(shape) if not seen or spec.name in seen]
    found = admin.topics([spec.name for spec in specs])
    safety = Safety(admin.settings.replication_factor, admin.settings.min_insync)
    has_lived = not accept_loss and len(found) < len(specs) and _has_lived(admin, shape)
    steps: list[Step] = []
    for spec in specs:
        role = role_of(spec.name, shape)
        there = found.get(spec.name)
        if there is None:
            lost = role in OF_LANES and has_lived
            steps.append(_lost(spec, role) if lost else _creation(spec, role, safety))
        else:
            steps += _shape_steps(spec, role, there, safety)
            steps += _setting_steps(role, there, wants(role, spec, safety))
    return steps


def apply(admin: Admin, shape: GroupShape, steps: Sequence[Step]) -> list[tuple[Step, str]]:
    """Carry out what is safe of a plan; each step with what became of it. A step that fails does not stop the others.

    Doing it twice does nothing the second time: plan again.
    """
    return [(step, _carried_out(admin, shape, step)) for step in steps]


def problems(steps: Iterable[Step]) -> list[str]:
    """Why no worker may start: topics that are missing, or where it could lose what it was given."""
    return [f"{step}. {_advice(step)}" for step in steps if step.action == CREATE or step.why]


def _advice(step: Step) -> str:
    if step.todo:
        return step.todo
    return "Run: millstream topics apply" + ("" if step.action == CREATE else " --yes")


def check(settings: KafkaSettings, shape: GroupShape) -> list[str]:
    """``problems`` of the topics as they are (lanes.md rule 16). Raises BrokersUnreachable, ConfigError, NotAllowed."""
    return problems(topic_steps(Admin(settings), shape))


async def refuse_unsafe_topics(settings: KafkaSettings, shape: GroupShape) -> None:
    """``refuse_unsafe`` off the loop: what a worker on Kafka does before it starts."""
    await asyncio.to_thread(refuse_unsafe, settings, shape)


def refuse_unsafe(settings: KafkaSettings, shape: GroupShape) -> None:
    """Raise OperatorError that names every problem, and the setting to change, if there is one."""
    found = check(settings, shape)
    if found:
        raise OperatorError(
            f"the topics of group {shape.group!r} are not fit to work on, so nothing was started:\n  "
            + "\n  ".join(found)
        )


def _has_lived(admin: Admin, shape: GroupShape) -> bool:
    """Whether a worker has ever registered an app, or a lane written anything."""
    with suppress(NotAllowed):
        functions, journal = group_topic(shape.group, "functions"), group_topic(shape.group, "journal")
        there = admin.topics([functions, journal])
        wanted = [(name, number) for name, found in there.items() for number in range(found.partitions)]
        return any(admin.ends(wanted).values())
    return False


def _lost(spec: TopicSpec, role: str) -> Step:
    return Step(
        action=UNSAFE, about="topic", name=spec.name, setting="topic", found="missing", wanted="what it held",
        why="the group has lived, so it was deleted", todo=LOST_TOPIC if role in HOLDS_RUNS else LOST_ROWS,
    )  # fmt: skip


def _creation(spec: TopicSpec, role: str, safety: Safety) -> Step:
    made = made_with(role, spec, safety)
    shape = f"partitions={spec.partitions} replication={safety.replication_factor}"
    settings = " ".join(f"{name}={value}" for name, value in made.items())
    return Step(action=CREATE, about="topic", name=spec.name, wanted=f"{shape} {settings}")


def _shape_steps(spec: TopicSpec, role: str, there: TopicFound, safety: Safety) -> Iterator[Step]:
    """Partitions and copies: neither can be altered by an ordinary client without moving records."""
    partitions = f"{there.partitions}"
    if role in OF_LANES and there.partitions != spec.partitions:
        yield Step(
            action=UNSAFE, about="topic", name=spec.name, setting="partitions", found=partitions,
            wanted=f"{spec.partitions}", why="each lane owns one partition of each of these topics, for ever",
            todo=f"Say --lanes {there.partitions}, or choose another --group for another number of lanes.",
        )  # fmt: skip
    elif role == "functions" and there.partitions != 1:
        yield Step(
            action=UNSAFE, about="topic", name=spec.name, setting="partitions", found=partitions, wanted="1",
            why="the versions of an app must be in one order", todo="Choose another --group.",
        )  # fmt: skip
    elif role == "replies" and there.partitions < spec.partitions:
        yield Step(
            action=CHANGE, about="topic", name=spec.name, setting="partitions", found=partitions,
            wanted=f"{spec.partitions}",
        )  # fmt: skip
    if there.replication_factor < safety.replication_factor:
        yield Step(
            action=UNSAFE if role in STATE else LEAVE, about="topic", name=spec.name, setting="replication factor",
            found=f"{there.replication_factor}", wanted=f"{safety.replication_factor}",
            why="a broker that is lost takes acknowledged records with it" if role in STATE else "",
            todo="Reassign its partitions to more brokers with kafka-reassign-partitions.sh, or say how many copies "
            "are enough: --replication-factor.",
        )  # fmt: skip


def _setting_steps(role: str, there: TopicFound, wanted: Iterable[Want]) -> Iterator[Step]:
    owners = role == "events"
    for want in wanted:
        found = there.settings.get(want.name, "")
        if want.met_by(found):
            continue
        if want.name == "min.insync.replicas" and int(want.value) > there.replication_factor:
            continue  # It could never be met; the missing copies are what is wrong, and that is said already.
        yield Step(
            action=LEAVE if owners else CHANGE, about="topic", name=there.name, setting=want.name, found=found,
            wanted=("at least " if want.meets.value == "at least" else "") + want.value,
            why="" if owners else want.unsafe,
            todo="It belongs to its owner, who may want it so." if owners else "",
        )  # fmt: skip


def group_steps(admin: Admin, group: str) -> Iterator[Step]:
    """How soon the group notices that a member is gone, and others hear of it; with the classic protocol members say
    so themselves."""
    settings = admin.settings
    if settings.group_protocol != "consumer":
        return
    found = admin.group_settings(group)
    if SESSION not in found:
        return  # A broker before 4.0: it has no such groups, and joining says so.
    session_ms = settings.session_timeout_ms
    for setting, wanted_ms in ((SESSION, session_ms), (HEARTBEAT, max(session_ms // HEARTBEATS_PER_SESSION, 1))):
        if found[setting] != str(wanted_ms):
            yield Step(
                action=CHANGE, about="group", name=group, setting=setting, found=found[setting], wanted=str(wanted_ms)
            )


def _carried_out(admin: Admin, shape: GroupShape, step: Step) -> str:
    """Do one step; what became of it: ``done``, or why not."""
    if step.action in (UNSAFE, LEAVE):
        return f"left as it is. {step.todo}"
    try:
        if step.action == CREATE:
            spec = next(one for one in topics_of(shape) if one.name == step.name)
            create(admin, spec, shape)
        elif step.about == "group":
            _set_group(admin, step)
        elif step.setting == "partitions":
            admin.grow(step.name, int(step.wanted))
        else:
            admin.set_topic(step.name, {step.setting: step.wanted.removeprefix("at least ")})
    except MillstreamError as error:
        return f"failed: {error}"
    return "done"


def create(admin: Admin, spec: TopicSpec, shape: GroupShape) -> None:
    """Make one topic as it must be."""
    safety = Safety(admin.settings.replication_factor, admin.settings.min_insync)
    admin.create(
        spec.name, spec.partitions, safety.replication_factor, made_with(role_of(spec.name, shape), spec, safety)
    )


def _set_group(admin: Admin, step: Step) -> None:
    """Set the session with a heartbeat that fits it, where brokers allow that, else alone."""
    session = step.setting == SESSION
    least, then = (
        (BROKER_SESSION_MIN, f"a worker that is killed is replaced after {step.found} ms")
        if session
        else (BROKER_HEARTBEAT_MIN, f"lanes that change workers stand still for up to {step.found} ms")
    )
    try:
        if session:
            with suppress(OperatorError):
                heartbeat = max(int(step.wanted) // HEARTBEATS_PER_SESSION, 1)
                admin.set_group(step.name, {HEARTBEAT: str(heartbeat), SESSION: step.wanted})
                return
        admin.set_group(step.name, {step.setting: step.wanted})
    except OperatorError as error:
        raise OperatorError(
            f"{error} Brokers allow none below their {least} ({_BROKERS_DEFAULT[least]} by default): set it to "
            f"{step.wanted} on every broker, or ask for a longer one with --session-timeout. Until then {then}."
        ) from error


_BROKERS_DEFAULT: Final = {BROKER_SESSION_MIN: 45_000, BROKER_HEARTBEAT_MIN: 5_000}
