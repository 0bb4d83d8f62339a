"""docs/how-to/deploy.md as a reader follows it: its files, and every line of its blocks in one shell, top to bottom.

The pods are processes and Kafka is real: one broker in the clear for the first try, one that asks for TLS and SCRAM and
has ACLs for the group. What differs from the page: the brokers' addresses, and that one broker keeps one copy.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream.log.kafka.admin.acls import GROUP, TOPIC, TRANSACTIONS, Access
from millstream.log.kafka.admin.client import Admin
from tests.deploy.groups import ask, until
from tests.deploy.pods.cluster import Cluster
from tests.deploy.terminal import Terminal
from tests.docs.blocks import ROOT
from tests.kafka.broker import Broker
from tests.kafka.secured import grant, secured

PAGE = ROOT / "docs" / "how-to" / "deploy.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILE = re.compile(r"^```\w+\n(# (?P<name>[\w.]+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", re.MULTILINE)
USERS = ("operator", "worker", "api", "history")
KINDS = {"--topic": TOPIC, "--group": GROUP, "--transactional-id": TRANSACTIONS}


def files() -> dict[str, str]:
    """Each file that the page shows: a block whose first line names it."""
    return {found["name"]: found[1] for found in FILE.finditer(TEXT)}


def script() -> str:
    """Every line of the page's blocks, in order, with a check behind each block: `check "its heading" number`."""
    lines: list[str] = []
    text = re.sub(r"^```.*?^```$", "(a file)", TEXT, flags=re.MULTILINE | re.DOTALL)
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading = section.splitlines()[0]
        for number, block in enumerate(BLOCK.findall(section), 1):
            lines += [*textwrap.dedent(block).splitlines(), f"check {shlex.quote(heading)} {number}"]
    return "\n".join(lines)


class Reader:
    """Follows the page, and looks whether what it says has come about."""

    def __init__(self, terminal: Terminal, broker: Broker) -> None:
        self.terminal, self.broker = terminal, broker
        self.url = f"http://{terminal.address}:8288"
        self.numbers = iter(range(100, 200))
        terminal.checks |= {
            "A first try 3": self.first_run,
            "A first try 4": self.first_try_is_gone,
            "Users in Kafka 2": self.allow,
            "Install, send, look 1": self.two_runs,
            "Install, send, look 2": self.nothing_is_wrong,
            "New code 1": lambda: self.version(2),
            "Roll back 1": lambda: self.version(1),
            "Scale 1": self.three_workers,
            "Remove it 1": self.removed,
        }

    @property
    def shop(self) -> Cluster:
        return self.terminal.clusters["shop"]

    def first_run(self) -> None:
        assert self.outputs(1) == [{"parcel": "parcel-7", "version": 1}]

    def first_try_is_gone(self) -> None:
        assert self.terminal.clusters == {}

    def allow(self) -> None:
        """What somebody who may has run: the printed commands, word by word."""
        accesses = []
        for line in self.terminal.acls.read_text().splitlines():
            words = shlex.split(line)
            option = next(word for word in words if word in KINDS)
            after = {word: words[at + 1] for at, word in enumerate(words[:-1])}
            operations = tuple(words[at + 1] for at, word in enumerate(words) if word == "--operation")
            role = after["--allow-principal"].removeprefix("User:")
            accesses.append(
                Access(role, KINDS[option], after[option], operations, "", "--resource-pattern-type" in words)
            )
        assert {access.role for access in accesses} >= set(USERS)
        grant(secured(self.broker, "sasl-scram"), accesses)

    def key(self) -> str:
        return self.shop.store.secrets["event-keys"]["event-keys"].decode()

    def outputs(self, count: int) -> list[Any]:
        """What so many runs have returned, the newest first; once they have ended."""

        def look() -> Any:
            runs = ask(f"{self.url}/api/runs?status=Completed")[1]["data"]
            return runs if len(runs) >= count else None

        found: list[Any] = [run["output"] for run in until(f"{count} runs", look)]
        return found

    def two_runs(self) -> None:
        outputs = self.outputs(2)
        assert sorted(output["parcel"] for output in outputs) == ["parcel-8", "parcel-9"]

    def nothing_is_wrong(self) -> None:
        assert self.terminal.said[-1] == "", "the doctor prints nothing"

    def version(self, wanted: int) -> None:
        """A run that begins now runs this version of the code."""
        number = next(self.numbers)
        path = f"{self.url}/invoke/shop-fulfil?wait=30s"
        status, answer = ask(path, {"data": {"order": number}}, key=self.key())
        assert (status, answer["data"].get("output")) == (200, {"parcel": f"parcel-{number}", "version": wanted}), (
            answer
        )

    def three_workers(self) -> None:
        assert len(self.shop.pods(component="worker")) == 3
        assert all(pod.ready for pod in self.shop.pods())

    def removed(self) -> None:
        assert self.shop.pods() == []
        assert self.shop.claims == set(), "caches go with the release"
        assert "event-keys" in self.shop.store.secrets
        assert Admin(secured(self.broker, "sasl-scram")).topics(["shop.journal"]), "the topics stay"


@pytest.fixture
def terminal(tmp_path: Path, kafka: Broker, secured_kafka: Broker) -> Iterator[Terminal]:
    """A checkout, with the files of the page, and what whoever runs Kafka has given."""
    for name in ("helm", "Dockerfile"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "ca.pem").write_bytes((secured_kafka.security / "ca.pem").read_bytes())
    for user in USERS:
        (tmp_path / f"{user}.password").write_bytes((secured_kafka.security / f"{user}.password").read_bytes())
    hosts = {"kafka.example:9092": kafka.bootstrap}
    hosts |= {f"kafka-{number}.example:9093": secured_kafka.bootstrap for number in range(3)}
    made = Terminal(tmp_path, hosts, {"settings": {"replication_factor": 1, "min_insync": 1}})
    yield made
    made.close()


def test_the_page_leads_from_an_empty_namespace_to_a_running_function_and_back(
    terminal: Terminal, secured_kafka: Broker
) -> None:
    Reader(terminal, secured_kafka)
    # Between the versions the reader changes the code, which the page leaves to him.
    edited = 'sed -i.before \'s/"version": 1/"version": 2/\' shop.py'
    built = "docker build -t registry.example/shop:v2"
    assert built in script()
    assert all(f"check {shlex.quote(name[:-2])} {name[-1]}" in script().splitlines() for name in terminal.checks)
    terminal.run(script().replace(built, f"{edited}\n{built}"))


def test_the_page_has_all_of_its_files_and_checks() -> None:
    assert {"shop.py", "try.yaml", "Dockerfile.shop", "values.yaml"} <= files().keys()
    assert script().count("helm install") == 2
    assert script().count("helm upgrade") == 3
