"""Which settings a command takes that talks to a group on Kafka. Apart, so that `--help` loads no client."""

from __future__ import annotations

from typing import Final

KAFKA: Final = (
    "brokers", "security_protocol", "sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file",
    "ca_file", "cert_file", "key_file", "group_protocol", "session_timeout", "client_id", "replication_factor",
    "min_insync",
)  # fmt: skip
"""The settings that say how to reach Kafka and what is safe there."""
SHAPE: Final = ("group", "lanes", "events_topic", "apis")
"""The settings that say what topics there must be."""
