"""The types that can be asked for. Names and arguments are those that tools of SDK users write in their queries."""

from __future__ import annotations

from typing import Final

SDL: Final = """
"The id of an event."
scalar ULID
"RFC 3339."
scalar Time
"A JSON object."
scalar Map

enum RunStatus { QUEUED RUNNING COMPLETED FAILED CANCELLED }
"WAITING: for a time, an event, another run, or an operator."
enum SpanStatus { QUEUED RUNNING WAITING COMPLETED FAILED CANCELLED }

type Query {
  "One run, from the moment that it has been started. An error where there is none."
  run(runID: String!): Run
  "The events that have started a run."
  runTrigger(runID: String!): RunTrigger!
  "What a span ended with, by its outputID."
  runTraceSpanOutputByID(outputID: String!): SpanOutput
  event(query: EventQuery!): Event
  eventV2(id: ULID!): EventV2!
  "The apps that are registered."
  apps: [App!]!
}

input EventQuery { eventId: ID! }

type App { id: ID! name: String! functions: [Function!]! }

type Function { id: ID! slug: String! name: String! appID: ID }

type Run {
  id: ID!
  status: RunStatus!
  "The result, or the error, as JSON text; null until the run is over, and where it was cancelled."
  output: String
  queuedAt: Time!
  startedAt: Time
  endedAt: Time
  eventName: String
  function: Function!
  "preview: the end of the run is a span of its own, whether it was a success or not."
  trace(preview: Boolean): RunTraceSpan!
}

type RunTrigger {
  eventName: String
  "Each event as JSON text, in order."
  payloads: [String!]!
}

type RunTraceSpan {
  name: String!
  status: SpanStatus!
  attempts: Int
  queuedAt: Time!
  startedAt: Time
  endedAt: Time
  stepID: String
  spanID: String!
  "null until the span has ended."
  outputID: String
  "Nothing is measured here: always empty."
  metadata: [SpanMetadata!]!
  childrenSpans: [RunTraceSpan!]!
}

type SpanMetadata { scope: String! kind: String! values: Map! updatedAt: Time! }

type SpanOutput {
  "The value as JSON text."
  data: String
  error: SpanError
}

type SpanError { name: String! message: String! stack: String }

type Event {
  id: ULID!
  name: String!
  "The event as JSON text."
  payload: String!
  createdAt: Time!
  functionRuns: [FunctionRun!]!
}

type FunctionRun { id: ID! status: RunStatus! function: Function! startedAt: Time endedAt: Time }

type EventV2 {
  id: ULID!
  name: String!
  receivedAt: Time!
  "The id that the sender has given, else that of the event."
  idempotencyKey: String!
  "The event as JSON text."
  raw: String!
}
"""
