"""The functions of the server that is killed: those of ``functions`` and, with limits, those of ``limited``."""

from __future__ import annotations

from tests.chaos import limited
from tests.chaos.functions import app

limited.declare(app)

__all__ = ["app"]
