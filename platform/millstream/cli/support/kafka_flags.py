"""Which settings a command takes that talks to Kafka or a schema registry. Apart, so that `--help` loads no client."""

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
REGISTRY: Final = ("schemas", "registry", "registry_user", "registry_password_file", "registry_ca", "output")
"""The settings of schemas, and how to print them."""
