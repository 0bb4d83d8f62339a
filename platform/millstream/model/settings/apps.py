"""Settings of apps over HTTP: the keys that they and this server share, and which are asked to register."""

from __future__ import annotations

from typing import Final

from millstream.model.settings.setting import SWITCH, TEXT, TEXTS, Setting

APPS: Final = (
    Setting(
        name="signing_key",
        kind=TEXT,
        flag="--signing-key",
        metavar="KEY",
        secret=True,
        doc="The key that this server and its apps over HTTP share, signkey-<environment>-<hex> or hex alone: calls "
        "are signed, and the API asks for it. Without one: dev mode. Others can see a command line, so prefer the "
        "variable or the file.",
    ),
    Setting(
        name="signing_key_file",
        kind=TEXT,
        flag="--signing-key-file",
        metavar="FILE",
        doc="A file that holds the signing key instead.",
    ),
    Setting(
        name="signing_key_fallback",
        kind=TEXT,
        flag="--signing-key-fallback",
        metavar="KEY",
        secret=True,
        doc="The signing key that the other one replaces: it is still taken, and what an app refuses is "
        "signed with it once more.",
    ),
    Setting(
        name="signing_key_fallback_file",
        kind=TEXT,
        flag="--signing-key-fallback-file",
        metavar="FILE",
        doc="A file that holds it instead.",
    ),
    Setting(
        name="environments",
        kind=TEXTS,
        flag="--environment",
        metavar="NAME",
        doc="The name of the environment that this server is, as apps name it (INNGEST_ENV); requests for another are "
        "refused. May be repeated. Default: with a signing key the environment in it, else any.",
    ),
    Setting(
        name="sdk_urls",
        kind=TEXTS,
        flag="--sdk-url",
        metavar="URL",
        doc="The address of an app over HTTP, such as http://localhost:3000/api/inngest: it is asked to register. May "
        "be repeated.",
    ),
    Setting(
        name="no_discovery",
        kind=SWITCH,
        default="false",
        flag="--no-discovery",
        doc="Look for no apps over HTTP on this machine's usual ports.",
    ),
    Setting(
        name="no_poll",
        kind=SWITCH,
        default="false",
        flag="--no-poll",
        doc="Ask apps over HTTP to register only once, not every 5 s (30 s with a signing key) for changed code.",
    ),
)
