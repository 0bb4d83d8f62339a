"""penstock: durable functions on events, on the Kafka you already have. What a user imports is here, and only that.

from penstock import App, Context

app = App("shop")

@app.function(on="order/placed")
async def fulfil(ctx: Context) -> dict:
    return await ctx.step.run("charge", charge_card, ctx.event.data["order_id"])
"""

from __future__ import annotations

from penstock.errors import (
    FunctionError,
    NonRetriableError,
    PenstockError,
    RetryAfterError,
    StepError,
    StepsChanged,
    UnserialisableResult,
)
from penstock.model.event import Event
from penstock.model.function import EventTrigger
from penstock.sdk.app import App
from penstock.sdk.backoff import Exponential, Linear, Table
from penstock.sdk.client import Client
from penstock.sdk.context import Context, SyncContext
from penstock.sdk.current import current
from penstock.sdk.records import EventRecord, event_record
from penstock.sdk.topic import Topic

__version__ = "0.1.0"

__all__ = [
    "App",
    "Client",
    "Context",
    "Event",
    "EventRecord",
    "EventTrigger",
    "Exponential",
    "FunctionError",
    "Linear",
    "NonRetriableError",
    "PenstockError",
    "RetryAfterError",
    "StepError",
    "StepsChanged",
    "SyncContext",
    "Table",
    "Topic",
    "UnserialisableResult",
    "__version__",
    "current",
    "event_record",
]
