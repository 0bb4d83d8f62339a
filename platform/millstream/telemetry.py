"""Every metric in one table, and how log lines look.

Names follow Prometheus: ``millstream_`` in front, base units, ``_total`` on counters. Labels are bounded (function,
status), never ids. A label's child is looked up once and kept: a cached ``inc`` costs 0.7 µs, ``.labels().inc()`` 2.4
µs; callers count per batch, not per fact. Only the shell imports this module (the core, the model and the wire know
no metrics).

What has the label ``lane`` is this process's only while it owns the lane: ``forget_lane`` takes it all back, or alerts
would fire for ever on the last figures of an owner that was.

Add a metric: one line in ``METRICS``; a panel in ``deploy/prometheus/dashboards``.

Log lines are facts, lower case and past tense, with fields: ``say(log, "lane restored", lane=3, facts=18220,
took_ms=941)``. On a terminal they are one readable line; elsewhere one JSON object a line.
Neither holds a secret that can be recognised (``model/text/redaction.py``), nor what steers a terminal.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from dataclasses import dataclass
from typing import Final, TextIO

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from millstream.model.text.printable import one_line, printable, printable_json
from millstream.model.text.redaction import redacted
from millstream.model.text.storable import storable

CHILDREN_PER_METRIC_MAX: Final = 10_000
OTHER: Final = "(other)"

_SYNC_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_WAIT_S: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LONG_S: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_COUNT: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. ``kind`` is counter, gauge or histogram; ``buckets`` are a histogram's upper bounds.

    ``from_start``: values of its one label that are shown as 0 before anything is counted. ``rate`` and ``increase``
    do not see the first of a series that begins with it.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    from_start: tuple[str, ...] = ()


METRICS: Final = (
    Metric("millstream_events_received_total", "counter", "Events acknowledged by the door."),
    Metric(
        "millstream_events_refused_total",
        "counter",
        "Requests of the event API refused, by HTTP status.",
        ("status",),
        from_start=("400", "401", "413", "429", "503"),
    ),
    Metric("millstream_ingest_seconds", "histogram", "From a post's headers to its durable answer.", (), _SYNC_S),
    Metric("millstream_ingest_bytes_under_way", "gauge", "Bytes of posts received and not yet answered."),
    Metric("millstream_connections", "gauge", "HTTP connections that are open."),
    Metric(
        "millstream_connections_ended_total",
        "counter",
        "HTTP connections that were ended to keep within the limits, by why: no_place, place_wanted, header_size, "
        "headers_size, header_time, answer_time, answers_size.",
        ("reason",),
        from_start=(
            "no_place",
            "place_wanted",
            "header_size",
            "headers_size",
            "header_time",
            "answer_time",
            "answers_size",
        ),
    ),
    Metric("millstream_runs_started_total", "counter", "Runs started.", ("function",)),
    Metric("millstream_runs_finished_total", "counter", "Runs that ended, by how.", ("function", "status")),
    Metric(
        "millstream_event_start_seconds",
        "histogram",
        "From an event's receipt to the durable record that says what starts on it "
        "(measured for 5 events of a record; those of scans are not).",
        (),
        _WAIT_S,
    ),
    Metric(
        "millstream_run_seconds",
        "histogram",
        "From a run's start to its end, with all its waits (measured for 5 ends of a record, of runs that began with "
        "this owner of their lane, 20,000 of a lane at once).",
        ("function",),
        _LONG_S,
    ),
    Metric(
        "millstream_flow_skipped_total",
        "counter",
        "Starts that were dropped, by the option of the function that did (other: its trigger could not be evaluated).",
        ("function", "gate"),
    ),
    Metric(
        "millstream_flow_queued",
        "gauge",
        "Runs and steps that queue at limits of the function; (env) and (account) are limits that functions share.",
        ("function",),
    ),
    Metric(
        "millstream_flow_held",
        "gauge",
        "Runs and steps that count at limits of the function, once for each limit; (env) and (account) likewise.",
        ("function",),
    ),
    Metric(
        "millstream_flow_queued_seconds",
        "histogram",
        "From queueing at a limit to passing it, of those that had to queue (measured for 20,000 of a lane at once).",
        ("function",),
        _LONG_S,
    ),
    Metric(
        "millstream_step_attempts_total",
        "counter",
        "Attempts of steps that ended, by how.",
        ("status",),
        from_start=("completed", "failed"),
    ),
    Metric(
        "millstream_step_seconds",
        "histogram",
        "From an attempt's start to its durable result, of step.run where it succeeds (measured for 5 of a record).",
        (),
        _WAIT_S,
    ),
    Metric("millstream_journal_append_seconds", "histogram", "From an append to its acknowledgement.", (), _SYNC_S),
    Metric("millstream_journal_records_total", "counter", "Journal records appended."),
    Metric("millstream_journal_bytes_total", "counter", "Bytes of journal records appended."),
    Metric("millstream_journal_facts_per_record", "histogram", "Facts in one journal record.", (), _COUNT),
    Metric("millstream_lanes_assigned", "gauge", "Lanes that the group has given to this worker.", ("group",)),
    Metric("millstream_lanes_live", "gauge", "Lanes of this worker that are restored and take commands.", ("group",)),
    Metric("millstream_group_lanes", "gauge", "Lanes of the group, wherever they are.", ("group",)),
    Metric("millstream_ready", "gauge", "1 once the process can do its work: what /readyz answers."),
    Metric("millstream_lane_queue", "gauge", "Commands that wait in a lane's queue.", ("lane",)),
    Metric(
        "millstream_lane_lag",
        "gauge",
        "Records of its sources that a lane has yet to take in durably (looked at every 5 seconds).",
        ("lane",),
    ),
    Metric(
        "millstream_lane_records_total",
        "counter",
        "Records of its sources that a lane has taken in durably.",
        ("lane",),
    ),
    Metric(
        "millstream_oldest_event_age_seconds",
        "gauge",
        "Since the log took the oldest record of its sources that a lane has yet to take in durably; 0: there is none. "
        "Up to a page of records too old.",
        ("lane",),
    ),
    Metric(
        "millstream_executing",
        "gauge",
        "Steps that run at this moment; with --executors bodies between them, too.",
        ("lane",),
    ),
    Metric("millstream_overlay_bytes", "gauge", "Memory of rows that are not in the lane's store yet.", ("lane",)),
    Metric(
        "millstream_restore_rows",
        "gauge",
        "Rows of its checkpoint that a lane being restored has taken in.",
        ("lane",),
    ),
    Metric(
        "millstream_restore_records_left",
        "gauge",
        "Records of its journal that a lane being restored has yet to fold.",
        ("lane",),
    ),
    Metric(
        "millstream_storage_refused",
        "gauge",
        "1 while a lane takes nothing in: its log takes no append, or its store cannot be opened, read or flushed.",
        ("lane", "what"),
    ),
    Metric("millstream_topics_missing", "gauge", "Topics subscribed to that cannot be read.", ("lane",)),
    Metric("millstream_partitions_held", "gauge", "Partitions that wait for a schema nobody has given.", ("lane",)),
    Metric(
        "millstream_runs_without_code",
        "gauge",
        "Open runs whose function no app of this process has (at least: the oldest 20,000 of each lane are looked at).",
        ("function",),
    ),
    Metric(
        "millstream_runs_with_changed_code",
        "gauge",
        "Open runs that are parked since their function no longer asks for what is recorded (at least, likewise).",
        ("function",),
    ),
    Metric(
        "millstream_runs_held",
        "gauge",
        "Open runs that have failed for good and wait for an operator (at least, likewise).",
        ("function",),
    ),
    Metric("millstream_scans_open", "gauge", "Scans that are under way.", ("lane",)),
    Metric("millstream_scan_records_left", "gauge", "Records that scans have yet to read.", ("lane",)),
    Metric(
        "millstream_clock_behind_seconds",
        "gauge",
        "Until the clock, which was set back, shows again what it has shown before: timers wait as long.",
    ),
    Metric(
        "millstream_clock_jumps_total",
        "counter",
        "Jumps of the machine's clock by a second or more.",
        ("way",),
        from_start=("ahead", "back"),
    ),
    Metric(
        "millstream_app_calls_total",
        "counter",
        "Calls of functions of apps over HTTP, by how they ended: answered, failed (the function or a step of it), "
        "refused (nothing ran), not_sent (no connection), broken (the connection), too_slow, too_large, no_app (what "
        "answered is none, or did not sign).",
        ("app", "outcome"),
    ),
    Metric(
        "millstream_app_call_seconds",
        "histogram",
        "From a call of an app over HTTP to its answer.",
        ("app",),
        _LONG_S,
    ),
    Metric("millstream_app_calls_under_way", "gauge", "Calls that are under way to an app over HTTP.", ("app",)),
    Metric("millstream_app_calls_waiting", "gauge", "Calls that wait for one that is under way to end.", ("app",)),
    Metric(
        "millstream_app_up",
        "gauge",
        "1 while an app over HTTP is called, 0 while its runs wait until it is well.",
        ("app",),
    ),
    Metric("millstream_loop_lag_seconds", "gauge", "How late the event loop was at its worst in the last second."),
    Metric("millstream_executors", "gauge", "Executor processes that take steps (--executors)."),
    Metric("millstream_executor_deaths_total", "counter", "Executor processes that died and were started again."),
    Metric("millstream_timer_lateness_seconds", "histogram", "From a timer's time to its firing.", (), _SYNC_S),
    Metric(
        "millstream_timers_pending",
        "gauge",
        "Timers due within 20 seconds; later ones are rows.",
        ("lane",),
    ),
    Metric("millstream_fences_total", "counter", "Fences appended: lanes taken over."),
    Metric("millstream_restore_seconds", "histogram", "Rebuilding a lane's tables at take-over.", (), _LONG_S),
    Metric(
        "millstream_checkpoint_age_seconds",
        "gauge",
        "Since the lane's last checkpoint; 0: nothing was recorded behind it.",
        ("lane",),
    ),
    Metric(
        "millstream_dead_letters_total",
        "counter",
        "Records and commands set aside, by the command that could not be decided.",
        ("reason",),
        from_start=("AcceptRecord", "AdvanceScan", "FireTimer", "RefuseRecord", "TakeMessage"),
    ),
    Metric("millstream_data_free_bytes", "gauge", "Room on the disk of the data directory."),
    Metric("millstream_data_disk_bytes", "gauge", "Size of the disk of the data directory."),
    Metric("millstream_history_deaths_total", "counter", "History processes that ended and were started again."),
    Metric("millstream_history_lag", "gauge", "Journal records that the history has yet to fold.", ("lane",)),
    Metric("millstream_build_info", "gauge", "Always 1; the labels say what runs.", ("version", "python")),
)
_BY_NAME: Final = {metric.name: metric for metric in METRICS}
OUTLIVE_LANES: Final = frozenset({"millstream_storage_refused", "millstream_history_lag"})
"""Have the label ``lane`` and are not the lane's: a trouble outlives the lane that it ends, and a history owns none."""


class Telemetry:
    """The metrics of one process. The composition root makes it and hands it to all parts that count.

    ``count``, ``set`` and ``observe`` raise KeyError for a name that is not in ``METRICS``. Past
    ``CHILDREN_PER_METRIC_MAX`` combinations of labels a metric counts the rest under ``(other)``.
    """

    def __init__(self, *, version: str = "dev") -> None:
        self.registry = CollectorRegistry()
        self._parents: dict[str, Counter | Gauge | Histogram] = {m.name: self._make(m) for m in METRICS}
        self._children: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}
        self._sizes: dict[str, int] = dict.fromkeys(_BY_NAME, 0)
        python = ".".join(map(str, sys.version_info[:3]))
        self.set("millstream_build_info", 1, version, python)
        for metric in METRICS:
            for value in metric.from_start:
                self.count(metric.name, 0, value)

    def count(self, name: str, amount: float = 1, *labels: str) -> None:
        """Add to a counter."""
        child = self._children.get((name, *labels)) or self._child(name, labels)
        assert isinstance(child, Counter), f"{name} is no counter"
        child.inc(amount)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        child = self._children.get((name, *labels)) or self._child(name, labels)
        assert isinstance(child, Gauge), f"{name} is no gauge"
        child.set(value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        child = self._children.get((name, *labels)) or self._child(name, labels)
        assert isinstance(child, Histogram), f"{name} is no histogram"
        child.observe(value)

    def forget(self, name: str, *labels: str) -> None:
        """Show one combination of labels no more, until it is set again."""
        if self._children.pop((name, *labels), None) is not None:
            self._sizes[name] -= 1
            self._parents[name].remove(*labels)

    def forget_lane(self, lane: int) -> None:
        """Show nothing more of a lane: this process owns it no more, or is about to restore it."""
        for metric in METRICS:
            if metric.labels == ("lane",) and metric.name not in OUTLIVE_LANES:
                self.forget(metric.name, str(lane))

    def exposition(self) -> tuple[bytes, str]:
        """What ``GET /metrics`` answers: the body and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        match metric.kind:
            case "counter":
                return Counter(metric.name, metric.help, metric.labels, registry=self.registry)
            case "gauge":
                return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
            case "histogram":
                return Histogram(
                    metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets
                )
        raise ValueError(f"metric {metric.name}: kind must be counter, gauge or histogram, got {metric.kind!r}")

    def _child(self, name: str, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        parent = self._parents[name]
        if not labels:
            self._children[(name,)] = parent
            return parent
        if self._sizes[name] >= CHILDREN_PER_METRIC_MAX:
            labels = tuple(OTHER for _ in labels)
        self._sizes[name] += 1
        child = self._children[(name, *labels)] = parent.labels(*labels)
        return child


async def watch_loop(telemetry: Telemetry, *, every_s: float = 0.05) -> None:
    """Measure for ever how late the event loop turns; the worst of each second is the gauge."""
    worst, second = 0.0, time.monotonic() + 1
    while True:
        due = time.monotonic() + every_s
        await asyncio.sleep(every_s)
        now = time.monotonic()
        worst = max(worst, now - due)
        if now >= second:
            telemetry.set("millstream_loop_lag_seconds", worst)
            worst, second = 0.0, now + 1


# --- log lines --------------------------------------------------------------------------------


TALKATIVE: Final = (
    "aiobotocore", "aiohttp", "aiokafka", "anthropic", "asyncio", "asyncpg", "azure", "boto3", "botocore", "celery",
    "elastic_transport", "google", "grpc", "httpcore", "httpx", "kafka", "kubernetes", "openai", "opensearch",
    "paramiko", "pika", "pymongo", "redis", "requests", "s3transfer", "sqlalchemy", "stripe", "urllib3", "websockets",
)  # fmt: skip
"""Libraries that log each request, at info: their warnings are shown, the rest with ``--log-level debug`` only. Lines
of the user's own loggers are shown."""


def say(log: logging.Logger, fact: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one fact with its fields."""
    if log.isEnabledFor(level):
        log.log(level, fact, extra={"fields": fields})


def setup_logging(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send all log lines to ``stream`` (stderr): readable on a terminal, JSON lines elsewhere. Call once."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Readable() if stream.isatty() else _JsonLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in TALKATIVE:
        library = logging.getLogger(name)
        if library.level == logging.NOTSET and level > logging.DEBUG:  # Who has chosen a level for it gets that.
            library.setLevel(max(level, logging.WARNING))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


class _Readable(logging.Formatter):
    """``01:12:43.120 lane restored lane=3 facts=18220 took_ms=941``"""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        mark = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        parts = [f"{at}.{int(record.msecs):03d} {mark}{record.getMessage()}"]
        parts += [f"{name}={_text(value)}" for name, value in _fields(record).items()]
        line = one_line(redacted(" ".join(parts)))
        if not record.exc_info:
            return line
        return f"{line}\n{printable(redacted(self.formatException(record.exc_info)))}"


def _text(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() for c in text) else text


class _JsonLine(logging.Formatter):
    """One JSON object a line: at, level, logger, fact, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "fact": record.getMessage(),
        }
        line.update(_fields(record))
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return printable_json(msgspec.json.encode(_redacted(line), enc_hook=str).decode())


def _redacted(value: object) -> object:
    """A line's value without secrets. Text in it is made such that UTF-8 can hold it."""
    match value:
        case str():
            text = redacted(value)
            return storable(text, len(text))
        case dict():
            return {_redacted(str(name)): _redacted(one) for name, one in value.items()}
        case list() | tuple():
            return [_redacted(one) for one in value]
        case int() | float() | None:
            return value
        case _:
            return _redacted(str(value))
