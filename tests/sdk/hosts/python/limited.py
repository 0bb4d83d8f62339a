"""Functions with flow control, an option each. Same names as in `../node/limited.cjs`."""

from __future__ import annotations

from typing import Any

import inngest

from tests.sdk.hosts.python.host import Host, did, now


def add_limited(host: Host) -> None:
    """Each waits for its event's gate where something must be seen while it runs."""

    async def held(ctx: Any) -> Any:
        await now(ctx.step.run("held", host.gate(ctx, "held")))
        return ctx.event.data.get("n")

    async def notes(ctx: Any) -> Any:
        return did(ctx, "ran", ctx.event.data["n"])

    host.function("concurrency", concurrency=[inngest.Concurrency(limit=1, key="event.data.key")])(held)
    host.function(
        "priority", concurrency=[inngest.Concurrency(limit=1)], priority=inngest.Priority(run="event.data.n")
    )(held)
    host.function("singleton", singleton=inngest.Singleton(key="event.data.key", mode="skip"))(held)
    host.function("throttle", throttle=inngest.Throttle(limit=1, period=2_000, key="event.data.key"))(notes)
    host.function("rate-limit", rate_limit=inngest.RateLimit(limit=1, period=60_000, key="event.data.key"))(notes)
    host.function("debounce", debounce=inngest.Debounce(period=1_000, key="event.data.key"))(notes)
    host.function("idempotency", idempotency="event.data.key")(notes)
