"""What the chart tells each process is what that process takes: its commands, flags, variables and their values."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import typer.main

from millstream.cli import commands
from millstream.config import BY_NAME, BY_VARIABLE, SETTINGS, refuse_unknown
from millstream.model.settings.setting import CHOICE, NUMBER, SWITCH
from tests.deploy.chart.rendering import (
    CHART,
    EVERY,
    EVERYTHING,
    GROUP,
    LOGIN,
    MUTUAL_TLS,
    NO_EXTRAS,
    ROLES,
    SINGLE,
    SINGLE_EVERYTHING,
    WORKLOADS,
    Values,
    container,
    of_kind,
    over,
    rendered,
    schema,
    variables,
    workload,
    yaml,
)

COMMANDS = {"worker": "worker", "api": "api", "history": "history", "topics": "topics apply", "server": "serve"}
DECIDED = {
    "brokers", "security_protocol", "sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file",
    "ca_file", "cert_file", "key_file", "registry", "registry_user", "registry_password_file", "registry_ca", "name",
    "data", "host", "port", "probes_port", "grace", "event_keys", "insecure_no_event_key", "history_url",
    "shutdown_delay", "signing_key", "signing_key_file", "signing_key_fallback", "signing_key_fallback_file",
}  # fmt: skip
"""Settings that have values of their own, or that the chart decides."""
ASKED_ONCE = {"output", "dry_run", "yes", "help"}
"""Options of a command that are nothing to set for a process."""
OF_THE_GROUP = {"group", "lanes", "events_topic"}
"""The same for every process, so no role has them for itself."""


def takes() -> dict[str, list[str]]:
    """The lists of templates/_settings.tpl."""
    template = (CHART / "templates" / "_settings.tpl").read_text(encoding="utf-8")
    (lists,) = re.findall(r'define "millstream.takes" -}}\n(.*?)\n{{- end -}}', template, re.DOTALL)
    found: dict[str, list[str]] = yaml.safe_load(lists)
    return found


@cache
def command(words: str) -> Any:
    """The click command of these words."""
    whole = next(it for it in vars(commands).values() if isinstance(it, typer.Typer) and it.registered_groups)
    found: Any = typer.main.get_command(whole)
    for word in words.split():
        found = found.commands[word]
    return found


def words_of(values: Values, role: str) -> str:
    """The command that a role runs; workers without functions of their own are `millstream server`."""
    return "server" if role == "worker" and not values["apps"] else COMMANDS[role]


def role_of(found: Any) -> str:
    return str(found["metadata"]["labels"]["app.kubernetes.io/component"])


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_of_a_command_can_be_set_for_its_role(role: str) -> None:
    asked = {one.name for one in command(COMMANDS[role]).params if one.param_type_name == "option"} - ASKED_ONCE
    listed = takes()[role]
    assert len(listed) == len(set(listed))
    assert set(listed) == asked - DECIDED


@pytest.mark.parametrize("role", [role for role in ROLES if role != "server"])
def test_the_schema_has_the_settings_of_each_role(role: str) -> None:
    assert set(schema()["definitions"][f"{role}Settings"]["properties"]) == set(takes()[role]) - OF_THE_GROUP


def test_the_schema_has_the_settings_of_all_roles_with_millstream_s_limits() -> None:
    properties = schema()["definitions"]["setting"]["properties"]
    assert set(properties) == {name for names in takes().values() for name in names}
    for setting in SETTINGS:
        part = properties.get(setting.name)
        if part is None:
            continue
        if setting.kind == CHOICE:
            assert part == {"enum": [choice for choice in setting.choices if choice]}
        elif setting.kind == NUMBER:
            assert part == {"type": "integer", "minimum": setting.minimum, "maximum": setting.maximum}
        elif setting.kind == SWITCH:
            assert part == {"type": "boolean"}


@pytest.mark.parametrize(
    ("section", "name"), [("securityProtocol", "security_protocol"), ("mechanism", "sasl_mechanism")]
)
def test_the_schema_has_the_choices_of_kafka(section: str, name: str) -> None:
    definitions = schema()["definitions"]
    part = definitions.get(section) or definitions["sasl"]["properties"][section]
    assert part["enum"] == list(BY_NAME[name].choices)


@EVERY
def test_each_process_knows_its_arguments(values: Values) -> None:
    for found in of_kind(values, *WORKLOADS).values():
        role = role_of(found)
        words = words_of(values, role).split()
        arguments = container(values, role)["args"]
        assert arguments[: len(words)] == words
        assert "command" not in container(values, role), "the image's entry point is millstream"
        flags = {opt for one in command(words_of(values, role)).params for opt in (*one.opts, *one.secondary_opts)}
        given = arguments[len(words) :]
        assert {one.partition("=")[0] for one in given if one.startswith("--")} <= flags
        apps = [one for one in given if not one.startswith("--")]
        assert apps == (values["apps"] if role in ("worker", "server") else [])


@EVERY
def test_each_process_takes_its_variables_as_they_were_meant(values: Values) -> None:
    for found in of_kind(values, *WORKLOADS).values():
        role = role_of(found)
        environment = container(values, role).get("env", [])
        names = [each["name"] for each in environment]
        assert len(names) == len(set(names)), "a variable that stands there twice counts once"
        refuse_unknown(names)
        sending = {"url", "event_key"}
        for name in names:
            if name in BY_VARIABLE:
                assert BY_VARIABLE[name].name in {one.name for one in command(words_of(values, role)).params} | sending
        for name, text in variables(values, role).items():
            if name in BY_VARIABLE:
                BY_VARIABLE[name].parse(text, name)


@pytest.mark.parametrize(
    ("values", "role"),
    [*((EVERYTHING, role) for role in ("worker", "api", "history", "topics")), (SINGLE_EVERYTHING, "server")],
)
def test_a_setting_arrives_with_its_value_and_a_role_s_own_goes_before(values: Values, role: str) -> None:
    given = variables(values, role)
    wanted = values["settings"] | values[role].get("settings", {})
    arrived = {name for name in takes()[role] if BY_NAME[name].variable in given}
    assert arrived == set(wanted) & set(takes()[role])
    for name in arrived:
        setting = BY_NAME[name]
        assert setting.parse(given[setting.variable], name) == setting.parse(str(wanted[name]), name)


def test_a_role_s_own_setting_goes_before_also_where_it_is_nothing() -> None:
    shared = {"settings": {"events_per_s": 100, "accept_loss": True, "executors": 2}}
    own = {"api": {"settings": {"events_per_s": 0}}, "worker": {"settings": {"accept_loss": False, "executors": 0}}}
    values = over(GROUP, shared | own)
    assert variables(values, "api")["MILLSTREAM_EVENTS_PER_S"] == "0"
    assert variables(values, "history")["MILLSTREAM_EVENTS_PER_S"] == "100"
    assert variables(values, "worker")["MILLSTREAM_ACCEPT_LOSS"] == "false"
    assert variables(values, "worker")["MILLSTREAM_EXECUTORS"] == "0"
    assert variables(values, "topics")["MILLSTREAM_ACCEPT_LOSS"] == "true"


def test_a_role_may_reach_kafka_without_the_login_of_the_others() -> None:
    nobody = {"mechanism": "", "username": "", "existingSecret": ""}
    values = over(LOGIN, {"api": {"kafka": {"securityProtocol": "ssl", "sasl": nobody}}})
    assert variables(values, "api")["MILLSTREAM_SECURITY_PROTOCOL"] == "ssl"
    assert "MILLSTREAM_SASL_USERNAME" not in variables(values, "api")
    assert variables(values, "worker")["MILLSTREAM_SASL_USERNAME"] == "shop"


def test_there_are_partitions_of_replies_for_every_api_and_history() -> None:
    assert variables(GROUP, "topics")["MILLSTREAM_APIS"] == "3"
    scaled = over(GROUP, {"api": {"autoscaling": {"enabled": True, "maxReplicas": 9}}, "history": {"replicas": 2}})
    assert variables(scaled, "topics")["MILLSTREAM_APIS"] == "11"
    assert variables(EVERYTHING, "topics")["MILLSTREAM_APIS"] == "12", "said by topics.settings.apis"


def test_each_role_logs_in_as_the_user_that_is_its_own() -> None:
    users = {role: variables(EVERYTHING, role)["MILLSTREAM_SASL_USERNAME"] for role in ("worker", "api", "history")}
    assert users == {"worker": "worker", "api": "api", "history": "history"}
    assert variables(EVERYTHING, "topics")["MILLSTREAM_SASL_USERNAME"] == "operator"
    assert {variables(LOGIN, role)["MILLSTREAM_SASL_USERNAME"] for role in ("worker", "api", "topics")} == {"shop"}


@pytest.mark.parametrize("role", ["worker", "api", "history", "topics"])
def test_each_role_reaches_kafka_as_the_values_say(role: str) -> None:
    plain = {"MILLSTREAM_BROKERS": "kafka-0:9092,kafka-1:9092", "MILLSTREAM_SECURITY_PROTOCOL": "plaintext"}
    assert plain.items() <= variables(GROUP, role).items()
    files = {
        "MILLSTREAM_SECURITY_PROTOCOL": "ssl",
        "MILLSTREAM_CA_FILE": "/etc/millstream/kafka/ca.crt",
        "MILLSTREAM_CERT_FILE": "/etc/millstream/kafka/tls.crt",
        "MILLSTREAM_KEY_FILE": "/etc/millstream/kafka/tls.key",
    }
    assert files.items() <= variables(MUTUAL_TLS, role).items()
    login = {
        "MILLSTREAM_SASL_MECHANISM": "SCRAM-SHA-512",
        "MILLSTREAM_SASL_USERNAME": "shop",
        "MILLSTREAM_SASL_PASSWORD_FILE": "/etc/millstream/kafka/password",
    }
    assert login.items() <= variables(LOGIN, role).items()


@pytest.mark.parametrize(("values", "roles"), [(GROUP, ("api", "history")), (SINGLE, ("server",))])
def test_event_keys_come_from_the_secret_and_only_from_there(values: Values, roles: tuple[str, ...]) -> None:
    reference = {"secretKeyRef": {"name": "shop-keys", "key": "event-keys"}}
    keyless = over(values, {"eventKeys": {"existingSecret": ""}, "insecureNoEventKey": True})
    for role in roles:
        (keys,) = [each for each in container(values, role)["env"] if each["name"] == "MILLSTREAM_EVENT_KEYS"]
        assert keys == {"name": BY_NAME["event_keys"].variable, "valueFrom": reference}
        assert "--insecure-no-event-key" not in container(values, role)["args"]
        assert "--insecure-no-event-key" in container(keyless, role)["args"]
        assert "MILLSTREAM_EVENT_KEYS" not in str(workload(keyless, role))
    assert "WARNING: no event key" in rendered(keyless)["NOTES.txt"]
    assert "WARNING: no event key" not in rendered(values)["NOTES.txt"]


def test_functions_send_events_with_a_key_of_their_own() -> None:
    for values, role in ((EVERYTHING, "worker"), (SINGLE_EVERYTHING, "server")):
        (key,) = [each for each in container(values, role)["env"] if each["name"] == "MILLSTREAM_EVENT_KEY"]
        assert key["valueFrom"] == {"secretKeyRef": {"name": "shop-keys", "key": "functions"}}
    assert variables(EVERYTHING, "worker")["MILLSTREAM_URL"] == "http://shop-engine-api:80"


@pytest.mark.parametrize(
    ("values", "roles"), [(EVERYTHING, {"worker", "api"}), (SINGLE_EVERYTHING, {"server"})], ids=["group", "single"]
)
def test_who_speaks_with_apps_over_http_has_the_signing_keys(values: Values, roles: set[str]) -> None:
    keys = {"MILLSTREAM_SIGNING_KEY": "now", "MILLSTREAM_SIGNING_KEY_FALLBACK": "before"}
    for found in of_kind(values, *WORKLOADS).values():
        role = role_of(found)
        given = {each["name"]: each.get("valueFrom") for each in container(values, role)["env"]}
        for name, entry in keys.items():
            reference = {"secretKeyRef": {"name": "shop-signing", "key": entry}}
            assert given.get(name) == (reference if role in roles else None)


def test_reads_are_handed_on_to_the_history_where_there_is_one() -> None:
    assert "--history-url=http://millstream-history:8290" in container(GROUP, "api")["args"]
    assert "--history-url=http://shop-engine-history:80" in container(EVERYTHING, "api")["args"]
    assert not [one for one in container(NO_EXTRAS, "api")["args"] if one.startswith("--history-url")]
