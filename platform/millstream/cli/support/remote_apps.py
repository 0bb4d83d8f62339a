"""What a server is told of apps over HTTP: the keys it shares with them, where they may be, which it keeps in step."""

from __future__ import annotations

from millstream.api.apps.syncing import SyncOptions
from millstream.config import BY_NAME, Settings
from millstream.errors import ConfigError
from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.execute.endpoint.guard import Guard
from millstream.log.passwords import password_in
from millstream.model.address import http_url
from millstream.model.text.redaction import keep_secret
from millstream.wire.signing import SigningKeys


def signing_keys_of(settings: Settings) -> SigningKeys:
    """The signing keys; none in dev mode. Raises ConfigError."""
    keys = SigningKeys.of(_key(settings, "signing_key"), _key(settings, "signing_key_fallback"))
    for key in keys.all:
        for secret in (key.secret, key.hash):
            keep_secret(secret)
    return keys


def environments_of(settings: Settings, keys: SigningKeys) -> frozenset[str]:
    """The names of this server's environment: those that were given, else the one in its key; none: any name fits."""
    given = settings.texts("environments")
    in_key = keys.primary.prefix.removeprefix("signkey-").rstrip("-") if keys.primary is not None else ""
    return frozenset(given or ([in_key] if in_key else []))


def sync_options_of(settings: Settings, *, discover: bool) -> SyncOptions:
    """Which apps are kept in step. Raises ConfigError for an address that is none."""
    urls = settings.texts("sdk_urls")
    for url in urls:
        http_url(url, BY_NAME["sdk_urls"].flag)
    return SyncOptions(urls=urls, discover=discover, poll=not settings.switch("no_poll"))


def endpoint_settings_of(settings: Settings, *, is_dev: bool) -> EndpointSettings:
    """How apps are called. Raises ConfigError for a network that is none."""
    guard = Guard(is_open=True) if is_dev else Guard.of(settings.texts("endpoint_networks"))
    return EndpointSettings(keys=signing_keys_of(settings), guard=guard)


def _key(settings: Settings, name: str) -> str:
    given, file = settings.text(name), settings.text(f"{name}_file")
    if given and file:
        raise ConfigError(
            f"{BY_NAME[name].flag} and {BY_NAME[f'{name}_file'].flag} were both given: expected one of them."
        )
    return given or password_in(file)
