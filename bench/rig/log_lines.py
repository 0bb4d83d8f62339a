"""Log lines of the measured process, with their fields, kept instead of printed."""

from __future__ import annotations

import logging
from typing import Any, Final

LOG: Final = logging.getLogger("millstream.lane")


class LogLines(logging.Handler):
    """``with Heard() as heard``: the lanes' log lines of this process from here on."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> LogLines:
        LOG.addHandler(self)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
        return self

    def __exit__(self, *error: object) -> None:
        LOG.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """The handler's own."""
        self.lines.append((record.getMessage(), getattr(record, "fields", {})))

    def total(self, fact: str, field: str) -> int:
        """The sum of a field over the lines that say this."""
        return sum(int(fields.get(field, 0)) for said, fields in self.lines if said == fact)
