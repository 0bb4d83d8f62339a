"""The functions of the fleet: those of ``tests.chaos.app``, the many small runs of ``volume``, and ``pairs``."""

from __future__ import annotations

from tests.chaos.app import app
from tests.chaos.on_kafka import volume
from tests.chaos.on_kafka.pairs import asking

volume.declare(app)
asking.declare(app)

__all__ = ["app"]
