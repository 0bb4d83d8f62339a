"""What every test shares: how hard hypothesis looks, and one real broker.

`HYPOTHESIS_PROFILE=thorough` looks ten times as hard; the default keeps `make test` within its budgets. There is no
deadline for one example: on a busy machine it would fail tests that are right.

The fixture ``kafka`` is that broker (`tests/kafka/broker.py`), ``schema_registry`` a schema registry; each is started
by the first test that asks for it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.kafka.broker import begin_run, kafka, schema_registry

__all__ = ["kafka", "schema_registry"]

settings.register_profile("quick", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
begin_run()
