"""millstream: durable functions on events, on the Kafka you already have. What a user imports is here, and only that.

from millstream import App, Context

app = App("shop")

@app.function(on="order/placed")
async def fulfil(ctx: Context) -> dict:
    return await ctx.step.run("charge", charge_card, ctx.event.data["order_id"])
"""

from __future__ import annotations

from millstream.errors import (
    FunctionError,
    InvokeTimeout,
    MillstreamError,
    NonRetriableError,
    NotStarted,
    RetryAfterError,
    RunError,
    RunNotOver,
    StepError,
    StepsChanged,
    UnserialisableResult,
)
from millstream.model.event import Event
from millstream.model.function import EventTrigger
from millstream.sdk.app import App
from millstream.sdk.backoff import Exponential, Linear, Table
from millstream.sdk.bounds import CancelOn, Timeouts
from millstream.sdk.callback import Callback, SyncCallback
from millstream.sdk.context import Context, SyncContext
from millstream.sdk.current import current
from millstream.sdk.flow import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from millstream.sdk.outside.client import Client, SyncClient
from millstream.sdk.outside.records import EventRecord, event_record
from millstream.sdk.received import Received
from millstream.sdk.retry import Retry
from millstream.sdk.topic import Topic
from millstream.sdk.waiting import On

__version__ = "0.1.0"

__all__ = [
    "App",
    "Batch",
    "Callback",
    "CancelOn",
    "Client",
    "Concurrency",
    "Context",
    "Debounce",
    "Event",
    "EventRecord",
    "EventTrigger",
    "Exponential",
    "FunctionError",
    "InvokeTimeout",
    "Linear",
    "MillstreamError",
    "NonRetriableError",
    "NotStarted",
    "On",
    "RateLimit",
    "Received",
    "Retry",
    "RetryAfterError",
    "RunError",
    "RunNotOver",
    "Singleton",
    "StepError",
    "StepsChanged",
    "SyncCallback",
    "SyncClient",
    "SyncContext",
    "Table",
    "Throttle",
    "Timeouts",
    "Topic",
    "UnserialisableResult",
    "__version__",
    "current",
    "event_record",
]
