"""The group a role belongs to, as its topics say: they were made by ``millstream topics apply``, and are the truth."""

from __future__ import annotations

from dataclasses import dataclass

from millstream.errors import AcknowledgedLost, ConfigError
from millstream.log.group_topics import GROUP_DEFAULT, GroupShape
from millstream.log.kafka.admin.topics import LOST_TOPIC
from millstream.log.kafka.log import KafkaLog, KafkaOptions
from millstream.log.kafka.settings import KafkaSettings
from millstream.log.port import Log
from millstream.model.messages import group_topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Which group, and how to reach it.

    ``lanes``  what somebody thinks there are; 0: whatever there are.
    """

    kafka: KafkaSettings
    group: str = GROUP_DEFAULT
    events_topic: str = "events"
    lanes: int = 0

    async def open(self, name: str) -> KafkaLog:
        """Reach the brokers under a name that is this process's own. Raises LogUnavailable."""
        return await KafkaLog.open(self.kafka, KafkaOptions(name=name))

    async def shape(self, log: Log) -> GroupShape:
        """The shape that the topics have. Raises ConfigError where they are not there, or not as was thought."""
        journal, replies = group_topic(self.group, "journal"), group_topic(self.group, "replies")
        found, answers, events = await log.topic(journal), await log.topic(replies), await log.topic(self.events_topic)
        for topic, there in ((journal, found), (replies, answers), (self.events_topic, events)):
            if there is None:
                functions = await log.topic(group_topic(self.group, "functions"))
                if functions is not None and await log.end_offset(functions.name, 0):
                    raise AcknowledgedLost(
                        f"topic {topic} was not found at {self.kafka.brokers}, though group {self.group!r} has lived: "
                        f"what it held is missing. {LOST_TOPIC}"
                    )
                raise ConfigError(
                    f"topic {topic} was not found at {self.kafka.brokers}: expected the topics of group "
                    f"{self.group!r}. Make them with: millstream topics apply --group {self.group}."
                )
        assert found is not None and answers is not None
        if self.lanes and self.lanes != found.partitions:
            raise ConfigError(
                f"--lanes {self.lanes} was refused: group {self.group!r} has {found.partitions}, the partitions of "
                f"{journal}, and that is fixed. Leave the option out, or name another --group."
            )
        return GroupShape(
            group=self.group, lanes=found.partitions, events_topic=self.events_topic, apis=answers.partitions
        )
