"""What a child process is told of how to call apps is what its worker was told."""

from __future__ import annotations

import msgspec
import pytest

from millstream.execute.endpoint.endpoints import EndpointSettings
from millstream.execute.endpoint.guard import Guard
from millstream.execute.processes.messages import CallSettings
from millstream.wire.signing import SigningKeys

KEY, OLD_KEY = "signkey-prod-" + "ab" * 16, "cd" * 16


@pytest.mark.parametrize(
    "settings",
    [
        EndpointSettings(),
        EndpointSettings(keys=SigningKeys.of(KEY), guard=Guard(), calls_max=7),
        EndpointSettings(keys=SigningKeys.of(KEY, OLD_KEY), guard=Guard.of(["10.0.0.0/8", "fd00::/8"])),
    ],
)
def test_settings_arrive_as_they_were_sent(settings: EndpointSettings) -> None:
    sent = msgspec.msgpack.encode(CallSettings.of(settings))
    assert msgspec.msgpack.decode(sent, type=CallSettings).settings == settings


def test_keys_are_not_shown() -> None:
    shown = repr(CallSettings.of(EndpointSettings(keys=SigningKeys.of(KEY, OLD_KEY))))
    assert "ab" * 16 not in shown and OLD_KEY not in shown
