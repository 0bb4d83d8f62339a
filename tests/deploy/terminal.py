"""A reader's terminal: bash runs the lines of a page as they stand there, in a folder like a checkout.

`millstream`, `openssl`, `base64` and the shell are real. In place of `docker`, `kubectl` and `helm` stands a program
that passes its words on to the test, which does with processes what they do with containers (`tests/deploy/pods`):

    a namespace      a `Cluster`                      an image        a folder of files
    a forwarded port an address of the test's own, which MILLSTREAM_URL names

An option that is not known here is an error. `kafka-acls.sh` writes down what it is told to allow.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.deploy.chart.rendering import over, resources, yaml
from tests.deploy.pods.cluster import Cluster
from tests.deploy.pods.containers import program_of
from tests.deploy.pods.network import addresses
from tests.deploy.pods.pod import Pod, answer_of
from tests.docs.blocks import ROOT

STAND_IN = """#!{python}
import json, os, sys, urllib.request
asked = json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]).encode()
with urllib.request.urlopen(os.environ["TERMINAL"], asked, timeout=600) as answer:
    code, text = json.load(answer)
sys.stdout.write(text)
sys.exit(code)
"""
Check = Callable[[], None]


class Terminal:
    """See the module. ``hosts`` are names of Kafka's brokers, and where they are here."""

    def __init__(self, folder: Path, hosts: Mapping[str, str], here: Mapping[str, Any]) -> None:
        self.folder = folder
        self.hosts = hosts
        self.here = here
        """Values that this machine needs other than the page has them."""
        self.clusters: dict[str, Cluster] = {}
        self.images: dict[str, Path] = {}
        self.pushed: set[str] = set()
        self.checks: dict[str, Check] = {}
        self.address = addresses()()
        self.said: list[str] = []
        """What programs have printed that were run in pods."""
        self.errors: list[BaseException] = []
        self.acls = folder / "allowed"
        self._make_programs()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def run(self, script: str) -> str:
        """Run lines in bash; what they print. Raises the error of whatever a stand-in could not do."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-v", "-c", script],
            cwd=self.folder,
            env=kept
            | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "platform")}
            | {"MILLSTREAM_URL": f"http://{self.address}:8288"}
            | {"TERMINAL": f"http://127.0.0.1:{self._server.server_port}/", "ALLOWED": str(self.acls)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if self.errors:
            raise AssertionError(f"{self.errors[0]}\n{ran.stdout}") from self.errors[0]
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for cluster in self.clusters.values():
            cluster.close()

    # --- the programs -------------------------------------------------------------------------------

    def _make_programs(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        texts = dict.fromkeys(("docker", "kubectl", "helm", "check"), STAND_IN.format(python=sys.executable))
        texts["millstream"] = f'#!/bin/sh\nexec {sys.executable} -P -m millstream "$@"\n'
        texts["kafka-acls.sh"] = '#!/bin/sh\nprintf "%s\\n" "$*" >> "$ALLOWED"\n'
        for name, text in texts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        terminal = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                words = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    answer = [0, terminal.called(words)]
                except BaseException as error:
                    terminal.errors.append(error)
                    answer = [1, f"{shlex.join(words)}: {error}\n"]
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler

    def called(self, words: list[str]) -> str:
        """What a stand-in prints."""
        match words:
            case ["check", heading, number]:
                self.checks.get(f"{heading} {number}", lambda: None)()
                return ""
            case ["docker", "build", *rest]:
                return self._build(rest)
            case ["docker", "push", image]:
                self.pushed.add(image)
                for cluster in self.clusters.values():
                    cluster.push(image, self.images[image])
                return ""
            case ["helm", command, *rest]:
                return self._helm(command, rest)
            case ["kubectl", "create", "namespace", name]:
                images = {image: self.images[image] for image in self.pushed}
                self.clusters[name] = Cluster(
                    self.folder / f"namespace-{name}", images=images, hosts=self.hosts, namespace=name
                )
                return f"namespace/{name} created\n"
            case ["kubectl", "delete", "namespace", name]:
                assert not self.clusters[name].pods(), "what is in it goes, too: uninstall first"
                self.clusters.pop(name).close()
                return f'namespace "{name}" deleted\n'
            case ["kubectl", "get", "--raw", path]:
                asked = re.fullmatch(r"/api/v1/namespaces/(\w+)/pods/([\w-]+):(\d+)/proxy(/.*)", path)
                assert asked, path
                (pod,) = (pod for pod in self.clusters[asked[1]].pods() if pod.name == asked[2])
                status, text = answer_of(f"http://{pod.ip}:{asked[3]}{asked[4]}")
                assert status == 200, text
                return text
            case ["kubectl", "-n", namespace, *rest]:
                return self._kubectl(self.clusters[namespace], rest)
        raise AssertionError(f"the terminal does not know: {shlex.join(words)}")

    # --- docker -------------------------------------------------------------------------------------

    def _build(self, words: list[str]) -> str:
        taken = _parser("-t", "-f", places=("context",)).parse_args(words)
        context = self.folder / taken.context
        text = (context / (taken.f or "Dockerfile")).read_text(encoding="utf-8")
        files = self.folder / "images" / re.sub(r"\W", "-", taken.t)
        if text == (ROOT / "Dockerfile").read_text(encoding="utf-8"):
            files.mkdir(parents=True)
        else:
            self._copy(text, context, files)
        self.images[taken.t] = files
        return ""

    def _copy(self, text: str, context: Path, files: Path) -> None:
        first, *others = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert first.startswith("FROM "), first
        shutil.copytree(self.images[first.removeprefix("FROM ")], files)
        for line in others:
            copied = re.fullmatch(r"COPY (\S+) \.", line)
            assert copied, f"the terminal does not know the line: {line}"
            shutil.copy(context / copied[1], files)

    # --- helm ---------------------------------------------------------------------------------------

    def _helm(self, command: str, words: list[str]) -> str:
        if command == "uninstall":
            taken = _parser("--namespace", places=("release",), flags=("--wait",)).parse_args(words)
            assert taken.wait
            self.clusters[taken.namespace].uninstall()
            self.clusters[taken.namespace].check()
            return f'release "{taken.release}" uninstalled\n'
        assert command in ("install", "upgrade"), command
        parser = _parser("--namespace", "--values", "--timeout", places=("release", "chart"), flags=("--wait",))
        parser.add_argument("--set", action="append", default=[])
        taken = parser.parse_args(words)
        assert taken.wait and taken.chart == "helm/millstream"
        values = yaml.safe_load((self.folder / taken.values).read_text(encoding="utf-8"))
        for given in (*map(_set, taken.set), self.here):
            values = over(values, given)
        manifests = resources(values, taken.release, taken.namespace)
        cluster = self.clusters[taken.namespace]
        (cluster.install if command == "install" else cluster.upgrade)(manifests)
        cluster.check()
        return f"NAME: {taken.release}\nSTATUS: deployed\n"

    # --- kubectl ------------------------------------------------------------------------------------

    def _kubectl(self, cluster: Cluster, words: list[str]) -> str:
        match words:
            case ["create", "secret", "generic", name, *rest]:
                cluster.create_secret(name, self._contents(rest))
            case ["create", "configmap", name, *rest]:
                cluster.create_config_map(name, self._contents(rest))
            case ["get", "secret", name, "-o", path]:
                key = re.fullmatch(r"jsonpath=\{\.data\.([\w-]+)\}", path)
                assert key, path
                return base64.b64encode(cluster.store.secrets[name][key[1]]).decode()
            case ["get", "pods"]:
                return "".join(f"{pod.name}  {'1/1' if pod.ready else '0/1'}  Running\n" for pod in cluster.pods())
            case ["logs", where]:
                return _pod_of(cluster, where).said()
            case ["exec", where, "--", program, *rest]:
                self.said.append(_executed(_pod_of(cluster, where), program, rest))
                return self.said[-1]
            case ["port-forward", where, "8288:8288"]:
                cluster.forward(where.removeprefix("service/"), self.address, 8288)
            case _:
                raise AssertionError(f"the terminal does not know: kubectl {shlex.join(words)}")
        return ""

    def _contents(self, words: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for word in words:
            kind, _, rest = word.partition("=")
            key, _, value = rest.rpartition("=") if kind == "--from-file" else rest.partition("=")
            assert kind in ("--from-literal", "--from-file"), word
            found[key or Path(value).name] = (
                value.encode() if kind == "--from-literal" else (self.folder / value).read_bytes()
            )
        return found


def _parser(*options: str, places: tuple[str, ...], flags: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    """Knows these options and no other."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    for place in places:
        parser.add_argument(place)
    for option in options:
        parser.add_argument(option)
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    return parser


def _set(given: str) -> dict[str, Any]:
    """The values of `--set worker.replicas=3`."""
    path, _, value = given.partition("=")
    assert "," not in given, f"the terminal takes one value for each --set: {given}"
    found: Any = yaml.safe_load(value)
    for name in reversed(path.split(".")):
        found = {name: found}
    return dict(found)


def _pod_of(cluster: Cluster, where: str) -> Pod:
    """The first pod of ``statefulset/name``."""
    kind, _, name = where.partition("/")
    workload = cluster.workloads[name]
    assert workload.kind.lower() == kind, where
    return workload.pods[0]


def _executed(pod: Pod, program: str, words: list[str]) -> str:
    """What a program prints that is run in a pod's surroundings. Raises AssertionError where it fails."""
    assert pod.process is not None
    ran = subprocess.run(
        [*program_of(program), *words],
        cwd=pod.process.cwd,
        env=pod.process.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"exit code {ran.returncode}: {ran.stdout}{ran.stderr}"
    return ran.stdout
