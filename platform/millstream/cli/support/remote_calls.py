"""How a server calls apps over HTTP, as flags and variables say."""

from __future__ import annotations

from millstream.config import Settings
from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.execute.endpoint.guard import Guard


def endpoint_settings_of(settings: Settings, *, is_dev: bool) -> EndpointSettings:
    """How apps are called. Raises ConfigError for a network that is none."""
    return EndpointSettings(guard=Guard(is_open=True) if is_dev else Guard.of(settings.texts("endpoint_networks")))
