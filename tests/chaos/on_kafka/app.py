"""The functions of the fleet: those of ``tests.chaos.functions``, and the many small runs of ``volume``."""

from __future__ import annotations

from tests.chaos.functions import app
from tests.chaos.on_kafka.volume import declare

declare(app)

__all__ = ["app"]
