"""Brokers that want to know who is there: settings for their users, and ACLs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient
from confluent_kafka.admin import ResourcePatternType as Pattern
from confluent_kafka.admin import ResourceType as Resource

from millstream.config import Settings
from millstream.log.kafka.admin.acls import GROUP, TOPIC, TRANSACTIONS, Access
from millstream.log.kafka.settings import KafkaSettings
from tests.kafka.broker import Broker

KINDS = {TOPIC: Resource.TOPIC, GROUP: Resource.GROUP, TRANSACTIONS: Resource.TRANSACTIONAL_ID}
HEARD_WITHIN_S = 30.0
OPERATIONS = {"".join(part.capitalize() for part in one.name.split("_")): one for one in AclOperation}


def secured(broker: Broker, kind: str, user: str = "admin", **changes: str) -> KafkaSettings:
    """How a user reaches a broker that was started with ``--security kind``, by way of a user's settings."""
    folder = broker.security
    given: dict[str, Any] = {
        "brokers": broker.bootstrap,
        "replication_factor": "1",
        "min_insync": "1",
        "security_protocol": "sasl_ssl" if "sasl" in kind else "ssl",
        "ca_file": str(folder / "ca.pem"),
    }
    if kind == "mtls":
        given |= {"cert_file": str(folder / f"{user}.pem"), "key_file": str(folder / f"{user}.key")}
    if "sasl" in kind:
        given |= {
            "sasl_mechanism": "PLAIN" if kind == "sasl-plain" else "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password_file": str(folder / f"{user}.password"),
        }
    return KafkaSettings.of(Settings(given | changes, {}))


def grant(admin: KafkaSettings, accesses: Iterable[Access]) -> None:
    """Allow it all, each role as the user of its name; returns when the broker knows it."""
    bindings = [_binding(access, operation) for access in accesses for operation in access.operations]
    client = AdminClient(admin.admin())
    for future in client.create_acls(bindings).values():
        future.result(10)
    for binding in bindings:
        _until_listed(client, _exactly(binding), 1)


def revoke(admin: KafkaSettings, access: Access, operation: str) -> None:
    """Take one operation away again; returns when the broker knows it."""
    wanted = _exactly(_binding(access, operation))
    client = AdminClient(admin.admin())
    for future in client.delete_acls([wanted]).values():
        assert len(future.result(10)) == 1
    _until_listed(client, wanted, 0)


def _binding(access: Access, operation: str) -> AclBinding:
    return AclBinding(*_resource(access), f"User:{access.role}", "*", OPERATIONS[operation], AclPermissionType.ALLOW)


def _exactly(one: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation, one.permission_type
    )


def _until_listed(client: AdminClient, wanted: AclBindingFilter, count: int) -> None:
    """What the controller has decided a broker hears of a moment later; it lists what it goes by."""
    until_s = time.monotonic() + HEARD_WITHIN_S
    while len(client.describe_acls(wanted).result(10)) != count:
        assert time.monotonic() < until_s, f"the broker does not list {count} of {wanted}"
        time.sleep(0.02)


def _resource(access: Access) -> tuple[Resource, str, Pattern]:
    return KINDS[access.kind], access.name, Pattern.PREFIXED if access.prefixed else Pattern.LITERAL
