"""Every setting of millstream, as data: its name, its ``MILLSTREAM_*`` variable, its kind, its default, what it is for.

    a flag on the command line  >  the MILLSTREAM_* variable  >  the default

The command line makes its flags from this table (``cli/support/flags.py``), ``millstream config show`` prints it, and a
``MILLSTREAM_*`` variable that is not in it is refused: a misspelt setting must not silently do nothing.

Add a setting: one line in ``SETTINGS`` (those of Kafka and of apps over HTTP are in ``model/settings/``), its name in
the command that takes it. Nothing else reads the environment
(but ``sdk/outside/client.py``, which runs in users' programs).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from millstream.errors import ConfigError
from millstream.model.settings.apps import APPS
from millstream.model.settings.kafka import KAFKA
from millstream.model.settings.setting import CHOICE, DURATION, NUMBER, PREFIX, SWITCH, TEXT, TEXTS, URL, Setting, Value

SETTINGS: Final = (
    # --- reaching a server
    Setting(
        name="url",
        kind=URL,
        default="http://127.0.0.1:8288",
        flag="--url",
        metavar="URL",
        doc="The server that commands talk to.",
    ),
    Setting(
        name="event_key", kind=TEXT, flag="--event-key", metavar="KEY", secret=True, doc="The key events are sent with."
    ),
    Setting(
        name="output",
        kind=CHOICE,
        default="auto",
        choices=("auto", "table", "json", "jsonl"),
        flag="--output",
        metavar="FORMAT",
        doc="table, json or jsonl; auto: a table on a terminal, jsonl in a pipe.",
    ),
    Setting(
        name="timeout",
        kind=DURATION,
        flag="--timeout",
        metavar="DURATION",
        doc="How long runs watch waits at most; without it, until the run ends.",
    ),
    # --- millstream dev
    Setting(
        name="data", kind=TEXT, default=".millstream", flag="--data", metavar="DIR", doc="The directory for all data."
    ),
    Setting(
        name="host",
        kind=TEXT,
        default="127.0.0.1",
        flag="--host",
        metavar="HOST",
        doc="The address to listen on; 0.0.0.0 lets other machines in, which needs an event key.",
    ),
    Setting(
        name="allowed_hosts",
        kind=TEXTS,
        flag="--allowed-host",
        metavar="NAME",
        doc="A name under which reads and requests are asked for, beside addresses, localhost, names without a dot and "
        "private ones; .example.com stands for all below it, * for any. May be repeated.",
    ),
    Setting(
        name="public_url",
        kind=URL,
        flag="--public-url",
        metavar="URL",
        doc="Where others reach the HTTP API, for the URLs of callbacks: https://hooks.example.com. Without it only "
        "millstream dev makes any, with its own address.",
    ),
    Setting(
        name="port",
        kind=NUMBER,
        default="8288",
        maximum=65_535,
        flag="--port",
        metavar="PORT",
        doc="The port to listen on; 0 takes a free one.",
    ),
    Setting(
        name="lanes",
        kind=NUMBER,
        minimum=1,
        maximum=4_096,
        flag="--lanes",
        metavar="N",
        doc="Lanes of a group (8), or of a new data directory (1); fixed from then on.",
    ),
    Setting(
        name="group",
        kind=TEXT,
        flag="--group",
        metavar="NAME",
        doc="The group, or that of a new data directory (the app's id, or millstream for several); fixed from then on.",
    ),
    Setting(
        name="executors",
        kind=NUMBER,
        default="0",
        maximum=256,
        flag="--executors",
        metavar="N",
        doc="Run functions, and call apps over HTTP, in this many child processes; 0 does it in this one, beside the "
        "lanes.",
    ),
    Setting(
        name="endpoint_networks",
        kind=TEXTS,
        flag="--endpoint-network",
        metavar="CIDR",
        doc="A private network in which apps over HTTP, and what their steps fetch, may be called: 10.0.0.0/8; * for "
        "any. May be repeated. Without it only the public internet is called; millstream dev calls anything.",
    ),
    Setting(
        name="durability",
        kind=CHOICE,
        default="fsync",
        choices=("fsync", "os"),
        flag="--durability",
        metavar="fsync|os",
        doc="fsync survives power cuts; os is faster and survives only the death of the process.",
    ),
    Setting(
        name="schemas",
        kind=TEXTS,
        flag="--schemas",
        metavar="DIR",
        doc="A directory of Avro schemas of events, <name>.avsc; may be repeated.",
    ),
    Setting(
        name="registry",
        kind=URL,
        flag="--registry",
        metavar="URL",
        doc="A schema registry (Confluent's API); without one, schemas are files only.",
    ),
    Setting(
        name="registry_user",
        kind=TEXT,
        flag="--registry-user",
        metavar="NAME",
        doc="Who we are to the registry.",
    ),
    Setting(
        name="registry_password_file",
        kind=TEXT,
        flag="--registry-password-file",
        metavar="FILE",
        doc="A file with the registry's password.",
    ),
    Setting(
        name="registry_ca",
        kind=TEXT,
        flag="--registry-ca",
        metavar="FILE",
        doc="Certificates that are trusted for the registry; without it, the system's.",
    ),
    Setting(
        name="retry_interval",
        kind=DURATION,
        flag="--retry-interval",
        metavar="SECONDS",
        doc="Retry everything after this time instead of each function's backoff.",
    ),
    Setting(
        name="event_keys",
        kind=TEXTS,
        flag="--event-key",
        metavar="KEY",
        secret=True,
        doc="A key events are taken with; may be repeated. Without one, any key is taken.",
    ),
    *APPS,
    Setting(
        name="insecure_no_event_key",
        kind=SWITCH,
        default="false",
        flag="--insecure-no-event-key",
        doc="Take events and requests without a key from whoever reaches the port: millstream serve at all, the others "
        "beyond this machine (--host).",
    ),
    Setting(
        name="events_per_s",
        kind=NUMBER,
        default="0",
        flag="--events-per-s",
        metavar="N",
        doc="How many events a second each event key may send before it is answered 429; without keys, each client's "
        "address; 0 is any number.",
    ),
    Setting(
        name="history",
        kind=DURATION,
        default="24h",
        flag="--history",
        metavar="DURATION",
        doc="How long ended runs and events can be read; on Kafka 7 days where nothing is said.",
    ),
    Setting(
        name="trim_lag",
        kind=DURATION,
        default="10m",
        flag="--trim-lag",
        metavar="DURATION",
        doc="How long a journal that a checkpoint made unnecessary is kept; on Kafka 1m or more.",
    ),
    Setting(
        name="accept_loss",
        kind=SWITCH,
        default="false",
        flag="--accept-loss",
        doc="Go on although something acknowledged is missing, and write down what; for one start.",
    ),
    Setting(
        name="feed",
        kind=TEXT,
        flag="--feed",
        metavar="FILE.jsonl",
        doc="Send the file's events after the start, with fresh ids.",
    ),
    Setting(
        name="smoke",
        kind=SWITCH,
        default="false",
        flag="--smoke",
        doc="Run until the feed's runs have ended or settled, in a fresh temporary directory unless --data is given; "
        "print a summary; exit 0 or 1.",
    ),
    Setting(
        name="reload",
        kind=SWITCH,
        default="true",
        flag="--reload/--no-reload",
        doc="Whether millstream dev takes up changed code: it watches the Python files below the working directory.",
    ),
    Setting(
        name="log_level",
        kind=CHOICE,
        default="info",
        choices=("debug", "info", "warning", "error"),
        flag="--log-level",
        metavar="LEVEL",
        doc="Which log lines go to stderr.",
    ),
    *KAFKA,
    # An option of another server that scripts pass; it changes nothing here, and millstream dev says so.
    Setting(name="tick", kind=NUMBER, minimum=0, flag="--tick", metavar="MS", doc="Taken and without meaning here."),
)
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
BY_VARIABLE: Final = {setting.variable: setting for setting in SETTINGS}

Given = Mapping[str, str | bool | Sequence[str] | None]
"""Flags as the command line got them, by setting; None: not given."""


class Settings:
    """Every setting's value and where it came from: a flag, a variable, or ``default``."""

    def __init__(self, given: Given, environ: Mapping[str, str]) -> None:
        """Raises ConfigError for a value that cannot be."""
        self._values: dict[str, Value] = {}
        self.origins: dict[str, str] = {}
        for setting in SETTINGS:
            self._values[setting.name], self.origins[setting.name] = _resolved(setting, given, environ)

    def value(self, name: str) -> Value:
        """The value of any setting."""
        return self._values[name]

    def text(self, name: str) -> str:
        """A text or choice."""
        value = self._values[name]
        assert isinstance(value, str), f"setting {name} is no text"
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Several texts."""
        value = self._values[name]
        assert isinstance(value, tuple), f"setting {name} is no list"
        return value

    def number(self, name: str, otherwise: int) -> int:
        """A number, or a duration in milliseconds; ``otherwise`` where it is not set."""
        value = self._values[name]
        assert value is None or (isinstance(value, int) and not isinstance(value, bool)), f"{name} is no number"
        return otherwise if value is None else value

    def switch(self, name: str) -> bool:
        """A switch."""
        value = self._values[name]
        assert isinstance(value, bool), f"setting {name} is no switch"
        return value

    def is_default(self, name: str) -> bool:
        """Whether it has its default value."""
        return self.origins[name] == "default"


def refuse_unknown(environ: Iterable[str]) -> None:
    """Raise ConfigError for a ``MILLSTREAM_*`` variable that is no setting, with the nearest that is."""
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in BY_VARIABLE:
            near = difflib.get_close_matches(variable, BY_VARIABLE, 1, 0.5)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"the environment variable {variable} is no setting of millstream. {hint}"
                "Unset it, or see all of them with: millstream config show."
            )


def _resolved(setting: Setting, given: Given, environ: Mapping[str, str]) -> tuple[Value, str]:
    flag = given.get(setting.name)
    if flag is not None and flag != () and flag != []:
        if isinstance(flag, str):
            return setting.parse(flag, setting.flag), setting.flag
        if isinstance(flag, bool):
            return flag, setting.flag.split("/")[0 if flag else -1]
        for one in flag:
            setting.check(one, setting.flag)
        return tuple(flag), setting.flag
    if environ.get(setting.variable, "") != "":
        return setting.parse(environ[setting.variable], setting.variable), setting.variable
    return setting.parse(setting.default, setting.name), "default"
