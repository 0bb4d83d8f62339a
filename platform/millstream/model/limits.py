"""Every documented limit, in one place, with its unit in its name.

The values are those users of the Inngest SDKs rely on (docs/reference/limits.md); ours are marked. A limit that is hit
is a clear error (``millstream.errors.LimitExceeded`` at a door, a failed step or run inside), never a silent cut.
"""

from __future__ import annotations

from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

# --- events ---
EVENT_BYTES_MAX: Final = 3 * 1024 * 1024  # as much is taken of what is sent with a signal, or posted to a callback
EVENTS_PER_REQUEST_MAX: Final = 5_000
REQUEST_BYTES_MAX: Final = 32 * 1024 * 1024  # ours: one POST of many events
EVENT_NAME_CHARS_MAX: Final = 1_024  # ours: 600-character names are seen in the wild
EVENT_ID_CHARS_MAX: Final = 1_024  # ours
EVENT_TS_MIN_MS: Final = 315_532_800_000  # 1980-01-01
EVENT_TS_MAX_MS: Final = 4_102_444_800_000  # 2100-01-01
JSON_DEPTH_MAX: Final = 256  # ours: objects and arrays inside each other, of events and foreign records
JSON_DIGITS_MAX: Final = 1_000  # ours: digits of a number in a row; longer ones are sent as text
SEEN_CLIENT_IDS_MS: Final = DAY_MS
SEEN_OUR_IDS_MS: Final = 10 * MINUTE_MS
SEEN_IDLE_MS: Final = 7 * DAY_MS  # ours: seen ids of a source that brings nothing more are kept so much longer

# --- connections ---
CONNECTIONS_MAX: Final = 5_000  # ours: of one port; fewer where ulimit -n is low: half of what is free at the start
IDLE_MS_MAX: Final = 75_000  # ours: a connection without a request is closed
HEADER_BYTES_MAX: Final = 64 * 1024  # ours: a request's line and headers, 128 of them, of 8,190 bytes each
HEADER_MS_MAX: Final = 10_000  # ours: from a header's first byte to its end
HEADERS_BYTES_MAX: Final = 16 * 1024 * 1024  # ours: all headers that have not ended
BODY_MS_MAX: Final = 30_000  # ours: from a header to the end of its body
BODIES_BYTES_MAX: Final = 64 * 1024 * 1024  # ours: all bodies that are received and not yet answered
ANSWER_MS_MAX: Final = 30_000  # ours: a client that takes no byte of its answer for so long is cut off
ANSWERS_BYTES_MAX: Final = 64 * 1024 * 1024  # ours: all answers that wait to be taken

# --- reads ---
VALUE_BYTES_SHOWN_MAX: Final = 64 * 1024  # ours: of a value in a listing; of a longer one its beginning, and a link
PAGE_BYTES_MAX: Final = 4 * 1024 * 1024  # ours: of the values of a page, which ends early; one row is always there
RUN_BYTES_SHOWN_MAX: Final = 8 * 1024 * 1024  # ours: of a run's values in an answer; of the longest, beginnings
ERRORS_BYTES_SHOWN_MAX: Final = 2 * 1024 * 1024  # ours: of the errors of a run's attempts, the newest first

# --- functions ---
TRIGGERS_PER_FUNCTION_MAX: Final = 10
TRIGGER_NAME_CHARS_MAX: Final = 255
CRON_CHARS_MAX: Final = 255
CRON_JITTER_MS_MIN: Final = 1_000
CRON_JITTER_MS_MAX: Final = 5 * MINUTE_MS
EXPRESSION_CHARS_MAX: Final = 4_096  # ours
CANCEL_ON_MAX: Final = 5
FUNCTION_ID_CHARS_MAX: Final = 255  # ours
APPS_MAX: Final = 10_000  # ours: of one group
FUNCTIONS_PER_APP_MAX: Final = 1_000  # ours
REGISTRATION_BYTES_MAX: Final = 4 * 1024 * 1024  # ours: an app's functions as it registers them
RETRIES_DEFAULT: Final = 4
SDK_RETRIES_MAX: Final = 20  # of functions of apps over HTTP
RETRIES_MAX: Final = 1_000_000  # ours: "unlimited" is written as this many

# --- flow control ---
CONCURRENCY_RULES_MAX: Final = 2
FLOW_LIMIT_MAX: Final = 1_000_000  # ours: limit of concurrency, throttle, rate_limit; burst of throttle
FLOW_PERIOD_MS_MIN: Final = 1_000  # of each period and timeout
THROTTLE_PERIOD_MS_MAX: Final = 7 * DAY_MS
RATE_LIMIT_PERIOD_MS_MAX: Final = DAY_MS
RATE_LIMIT_EXACT_MAX: Final = 1_000  # ours: up to this limit each start counts on its own; above, with its part
DEBOUNCE_PERIOD_MS_MAX: Final = 7 * DAY_MS
DEBOUNCE_TIMEOUT_MS_MAX: Final = 30 * DAY_MS  # ours
BATCH_SIZE_MIN: Final = 2
BATCH_SIZE_MAX: Final = 1_000  # ours: events that start one run
BATCH_BYTES_MAX: Final = 10 * 1024 * 1024  # of the data of these events: a batch that reaches it starts
BATCH_TIMEOUT_MS_MAX: Final = 7 * DAY_MS  # ours
PRIORITY_S_MAX: Final = 600  # and -600 at least: what is beyond counts as this
IDEMPOTENCY_MS: Final = DAY_MS  # how long a value of idempotency is known

# --- runs and steps ---
STEPS_PER_RUN_MAX: Final = 1_000
STEP_ID_CHARS_MAX: Final = 512  # ours
STEP_OUTPUT_BYTES_MAX: Final = 4 * 1024 * 1024
GATEWAY_REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024  # ours: what a step asks a gateway to send
PUBLISH_BYTES_MAX: Final = 4 * 1024 * 1024  # ours: a record that a step publishes
PUBLISH_HEADERS_MAX: Final = 100  # ours
RUN_STATE_BYTES_MAX: Final = 32 * 1024 * 1024
RUN_RESULT_BYTES_MAX: Final = 4 * 1024 * 1024
SLEEP_MS_MAX: Final = 366 * DAY_MS
WAIT_MS_MAX: Final = 366 * DAY_MS  # ours: how long a step may wait for an event, a signal, a post or another run
WAIT_CONDITIONS_MAX: Final = 20  # ours: events that one wait names
UNMATCHED_WAITS_MAX: Final = 10_000  # ours: waits for one event name that ask for no equal value
SIGNAL_NAME_CHARS_MAX: Final = 1_024  # ours
KEPT_EVENTS_MAX: Final = 200_000  # ours: events kept on a lane for waits that come later
KEPT_BYTES_MAX: Final = 128 * 1024 * 1024  # ours: the same, in bytes
KEPT_MS: Final = 7 * DAY_MS  # ours: the same, how long
CANCELLATIONS_MAX: Final = 100  # ours: cancellations of many runs under way at a time, of one home
CANCELLATION_REASON_CHARS_MAX: Final = 255  # ours
RETRY_AFTER_MS_MIN: Final = 1_000
RETRY_AFTER_MS_MAX: Final = DAY_MS
DISPATCHES_LOST_MAX: Final = 5  # ours: handed out again so often after its worker died; then it fails
ERROR_NAME_CHARS_MAX: Final = 256  # ours
ERROR_MESSAGE_CHARS_MAX: Final = 4_000  # ours
ERROR_STACK_CHARS_MAX: Final = 16_000  # ours
ERROR_MORE_BYTES_MAX: Final = 64 * 1024  # ours: what an error has beside name, message and stack; more is left out
REQUEST_IDS_KEPT_MS: Final = DAY_MS  # ours: how long an api may repeat a request
RESULT_WAIT_MS_MAX: Final = MINUTE_MS  # ours: how long one HTTP request waits for a run's end; then it is asked again
RESULTS_AWAITED_MAX: Final = (
    2_000  # ours: HTTP requests that wait for ends of runs; half of a port's connections at most
)

# --- journal ---
RECORD_BYTES_TARGET: Final = 512 * 1024  # ours: a commit larger than this is split into parts
RECORD_FACTS_MAX: Final = 4_000  # ours: facts in one part
