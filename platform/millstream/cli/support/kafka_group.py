"""The group on Kafka that a command is about: how to reach it, and the shape its topics must have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from millstream.config import Settings
from millstream.log.group_topics import GROUP_DEFAULT, GroupShape
from millstream.log.kafka.settings import KafkaSettings
from millstream.roles.group import Group
from millstream.sdk.app import App

LANES_DEFAULT: Final = 8


def shape_of(settings: Settings) -> GroupShape:
    """The shape that the settings name."""
    return GroupShape(
        group=settings.text("group") or GROUP_DEFAULT,
        lanes=settings.number("lanes", LANES_DEFAULT),
        events_topic=settings.text("events_topic"),
        apis=settings.number("apis", 1),
    )


def unsaid(settings: Settings) -> frozenset[str]:
    """What of the shape nobody has said: it is as the group's topics have it, and as above where there are none."""
    return frozenset(name for name in ("lanes", "apis") if settings.is_default(name))


def kafka_of(settings: Settings) -> KafkaSettings:
    """How to reach it. Raises ConfigError for what does not fit together."""
    return KafkaSettings.of(settings)


def group_of(settings: Settings, apps: Sequence[App]) -> Group:
    """The group that a role belongs to; default: the id of its one app."""
    return Group(
        kafka=kafka_of(settings),
        group=settings.text("group") or (apps[0].id if len(apps) == 1 else GROUP_DEFAULT),
        events_topic=settings.text("events_topic"),
        lanes=settings.number("lanes", 0),
    )
