"""The page of the SDK features has a line for every opcode and option that the code reads, and a word on each."""

from __future__ import annotations

import re

from millstream.execute.endpoint.opcodes import OPCODES
from millstream.wire.registration.options import Options
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "reference" / "sdk-features.md").read_text(encoding="utf-8")
HEADS = {"feature", "option", "---"}
ROWS = [
    cells
    for line in PAGE.splitlines()
    if line.startswith("|") and (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] not in HEADS
]

PROOFS: dict[str, tuple[str, ...]] = {
    "HTTP: FastAPI, Flask, Django, Tornado": ("sdk/test_steps.py", "sdk/frameworks/test_frameworks.py"),
    "HTTP: Express, node's http, Hono, Fastify, Koa, h3, `inngest/edge`": (
        "sdk/test_steps.py",
        "sdk/frameworks/test_frameworks.py",
    ),
    "HTTP: Next.js, app router": ("sdk/examples/nextjs/test_nextjs.py",),
    "registration by `PUT`, in development and signed": ("sdk/test_registering.py",),
    "in-band sync": ("sdk/test_registering.py", "api/test_syncing.py"),
    "signing key with a fallback": ("sdk/test_signed.py",),
    "event keys": ("sdk/test_signed.py", "api/test_keys.py"),
    "`INNGEST_ENV`": ("sdk/test_registering.py", "api/test_signing_keys.py"),
    "answers as a stream (201)": ("sdk/test_crashes_of_kinds.py", "endpoint/test_replies.py"),
    "large state over the API (`use_api`)": ("sdk/test_large_state.py",),
    "app versions (`appVersion`)": ("sdk/test_deploys.py",),
    "events by name and by wildcard": ("sdk/test_starting.py", "core/test_starts.py"),
    "`if` of a trigger": ("sdk/test_starting.py", "core/test_starts.py"),
    "several triggers": ("sdk/test_starting.py", "core/test_starts.py"),
    "crons with a time zone and a jitter": ("sdk/test_ticks.py", "core/test_cron.py", "wire/test_registration.py"),
    "functions that are only invoked": ("sdk/test_starting.py",),
    "`inngest/function.finished`, `inngest/function.failed`, `inngest/function.cancelled`": ("sdk/test_ends.py",),
    "`inngest/function.invoked`, `inngest/scheduled.timer`": ("core/test_internal_events.py", "sdk/test_ticks.py"),
    "`step.run`": ("sdk/test_steps.py", "sdk/test_failing.py"),
    "parallel steps, joint and as a race": ("sdk/test_parallel.py",),
    "`step.sleep`, `step.sleepUntil`": ("sdk/test_sleeps.py",),
    "`step.waitForEvent`": ("sdk/test_waits.py", "core/test_waits_as_sdks_ask.py"),
    "`step.waitForSignal`, `step.sendSignal`": ("sdk/test_signals.py",),
    "`step.sendEvent`": ("sdk/test_events.py",),
    "`step.invoke`": ("sdk/test_invoke.py",),
    "`step.fetch`": ("sdk/test_outside.py", "endpoint/test_gateway.py"),
    "`step.ai.infer`": ("sdk/test_outside.py", "endpoint/test_gateway.py"),
    "`step.ai.wrap`": ("sdk/test_outside.py",),
    "the end of a run, and asking to be called again": ("endpoint/test_replies.py",),
    "retries": ("sdk/test_failing.py",),
    "concurrency": ("sdk/test_flow.py", "wire/test_registration.py"),
    "throttle": ("sdk/test_flow.py",),
    "rate limit": ("sdk/test_flow.py",),
    "debounce": ("sdk/test_flow.py",),
    "batches": ("sdk/test_events.py",),
    "singleton": ("sdk/test_flow.py", "wire/test_registration.py"),
    "priority": ("sdk/test_flow.py",),
    "idempotency": ("sdk/test_flow.py",),
    "cancel on events": ("sdk/test_ends.py",),
    "timeouts": ("sdk/test_ends.py", "testing/test_bounds.py"),
    "failure handlers": ("sdk/test_failing.py",),
    "archived functions": ("sdk/test_deploys.py", "api/test_register.py"),
    "`optimizeParallelism`, middleware, logger, event schemas": ("sdk/test_dressed.py", "sdk/test_starting.py"),
    "`NonRetriableError`, `RetryAfterError`, `StepError`": ("sdk/test_failing.py", "endpoint/test_replies.py"),
    "errors made here under the names the SDKs know": (
        "sdk/test_invoke.py",
        "endpoint/test_gateway.py",
        "core/test_steps_decided.py",
    ),
    "middleware": ("sdk/test_dressed.py",),
    "encryption": ("sdk/test_dressed.py",),
    "`POST /e/{key}`, one event or many": ("api/test_events.py", "api/test_recordings.py"),
    "`id` of an event": ("cases/test_events.py", "core/test_starts.py"),
    "`ts` in the future": ("cases/test_events.py",),
    "a send that is repeated after a lost answer": ("sdk/test_dressed.py", "api/test_events.py"),
    "REST v1: events, runs, jobs, cancellations, signals, functions of an app": (
        "api/test_recordings.py",
        "api/test_protocol.py",
    ),
    "GraphQL of the tools": ("api/test_gql.py", "api/test_recordings.py"),
}
"""Which files of tests prove a line that says yes."""


def named(head: str, here: str) -> set[str]:
    """The code spans of the third column, of the tables with this head, in the lines with this word."""
    tables = re.findall(rf"^\| {head}\n(?:\|.*\n)+", PAGE, re.MULTILINE)
    assert tables, head
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]
    return {name for row in rows if row[1] == here for name in re.findall(r"`(\w+)`", row[2])}


def test_every_feature_is_there_or_comes_later_or_is_not_planned() -> None:
    assert {row[1] for row in ROWS} == {"yes", "later", "no"}
    assert len(ROWS) > 60


def test_every_feature_that_works_is_proved_by_tests() -> None:
    assert {row[0] for row in ROWS if row[1] == "yes" and "not tested" not in row[2]} == PROOFS.keys()
    missing = {file for files in PROOFS.values() for file in files if not (ROOT / "tests" / file).is_file()}
    assert not missing


def test_what_works_are_the_opcodes_that_the_code_knows() -> None:
    assert named(r"feature \| here \| opcodes \| note \|", "yes") == set(OPCODES)


def test_no_opcode_that_comes_later_is_known_already_but_the_one_of_a_plain_step() -> None:
    assert named(r"feature \| here \| opcodes \| note \|", "later") & set(OPCODES) == {"StepRun"}


def test_what_works_are_the_options_that_a_registration_is_read_for() -> None:
    works = named(r"option \| here \| on the wire \| note \|", "yes")
    assert works == {*Options.__struct_encode_fields__, "retries"}
