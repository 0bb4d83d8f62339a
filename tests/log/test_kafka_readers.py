"""A reader of Kafka whose thread brings records at any moment: is none of them taken for an error?"""

from __future__ import annotations

from millstream.log.kafka.reading.readers import KafkaReader, Run
from millstream.log.port import Record


class Brokers:
    """What a reader asks of its log."""

    def must_be_alive(self) -> None:
        return

    async def start_offset(self, topic: str, partition: int) -> int:
        return 0

    async def end_offset(self, topic: str, partition: int) -> int:
        return 1


class Late(KafkaReader):
    """Its thread brings a record just after the buffer was looked at and found empty."""

    come = False

    def _ask_for_more(self) -> None:
        super()._ask_for_more()
        if not self.come:
            self.come = True
            self.runs.append(
                Run(generation=self.generation, position=1, records=[Record(0, 1, b"v")], size=1, error=None)
            )


async def test_records_that_come_right_after_the_buffer_was_empty_are_read() -> None:
    reader = Late(Brokers(), "t", 0, 0)
    found = await reader.read(max_records=10, max_bytes=100, wait_s=1.0)
    assert [record.value for record in found] == [b"v"] and reader.position == 1
