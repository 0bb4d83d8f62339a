"""Who may import whom? The tables are the architecture; the tests below only compare the code with them.

To add a layer or a dependency: one line in a table, with the reason in the change that adds it.
"""

from __future__ import annotations

import ast
import sys

from tests.architecture.code import complain, imports, modules, own_imports

# Layer -> what it may import, a layer or one module, besides itself and what EVERYBODY may.
EVERYBODY = {"errors"}
BELOW_THE_SHELL = {"errors", "model", "core", "wire"}  # May not touch settings or telemetry.
SETTINGS = {"config", "telemetry", "process_handles", "disk", "files", "losses"}
EVERYTHING = {"*"}
ASKING_APPS = {f"execute.endpoint.{module}" for module in ("caller", "explain", "guard", "http")}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "model": set(),
    "core": {"model"},
    "wire": {"model", "files"},  # Files of schemas.
    "log": {"model"},
    "state": {"model", "wire"},
    "sdk": {"model", "wire"},
    # The port between a lane and its executors is one file with both protocols, beside the executors, as `log.port` is
    # beside the logs. A lane sees the port and no executor; an executor sees no lane.
    "lane": {"model", "core", "state", "log", "wire", "execute.port"},
    "execute": {"model", "sdk", "wire"},
    "history": {"model", "core", "state", "log", "wire"},  # Of core: how step kinds show.
    "apps": {"model", "log", "wire"},
    # Of core: what is wrong with a function. Of execute: how apps over HTTP are asked, and why one does not answer.
    "api": {"model", "log", "wire", "history", "apps", "core.declared", *ASKING_APPS},
    "config": {"model"},
    "telemetry": {"model"},
    "process_handles": set(),
    "disk": set(),
    "files": set(),
    "losses": set(),
    "group_note": {"model", "log"},
    "testing": EVERYTHING,
    "schema_registry": EVERYTHING,
    "worker": EVERYTHING,
    "dev": EVERYTHING,
    "roles": EVERYTHING,
    "__main__": EVERYTHING,
    "cli": EVERYTHING,
    "millstream": {"model", "sdk"},  # What `import millstream` gives a user: neither Kafka nor RocksDB.
}

# Package -> where it may be imported: a layer, or one module.
THIRD_PARTIES: dict[str, set[str]] = {
    "confluent_kafka": {"log.kafka", "schema_registry"},
    "rocksdict": {"state"},
    "avro": {"wire.compatibility"},
    "aiohttp": {"api", "cli", "testing"},
    "aiohttp.web": {"api"},
    "cel_expr_python": {"core.triggers.expressions", "core.triggers.mixed_numbers"},
    "cronsim": {"core.triggers.cron"},
    "fastavro": {"wire"},
    "google": {"wire.formats.protobuf_value"},
    "graphql": {"api.gql"},
    "httptools": {"execute.endpoint.response"},
    "msgspec": set(MAY_IMPORT) - {"errors", "millstream"},
    "prometheus_client": {"telemetry"},
    "pytest": {"testing"},
    "rich": {"cli"},
    "typer": {"cli"},
    "typing_extensions": {"sdk"},
    "uvloop": {"cli", "worker"},
    "faust": {"history"},
    "aiokafka": {"history"},
}

# Layer -> what of the standard library would break its promise.
BANNED_STANDARD: dict[str, set[str]] = {
    "core": {"asyncio", "time", "random", "uuid", "os", "logging", "threading", "secrets", "socket", "subprocess"},
    "model": {"asyncio", "time", "random", "uuid", "os", "logging", "threading", "secrets", "socket", "subprocess"},
    "wire": {"asyncio", "logging", "threading", "socket", "subprocess", "sqlite3"},
}
ONLY_IN: dict[str, set[str]] = {"sqlite3": {"log.embedded", "history"}}
CLOCK_CALLS = {"now", "utcnow", "today"}


def _is_in(module_name: str, places: set[str]) -> bool:
    return any(module_name == place or module_name.startswith(f"{place}.") for place in places)


def test_a_layer_imports_only_the_layers_below_it() -> None:
    problems = []
    for module in modules():
        allowed = MAY_IMPORT.get(module.layer)
        if allowed is None:
            problems.append(f"{module.where}: layer {module.layer!r} is not in MAY_IMPORT")
            continue
        allowed = allowed | EVERYBODY | {module.layer}
        if module.layer not in BELOW_THE_SHELL:
            allowed = allowed | SETTINGS
        for name, line in own_imports(module):
            target = name or "millstream"
            if "*" not in allowed and not _is_in(target, allowed):
                problems.append(f"{module.where}:{line}: {module.layer} imports {target}, may import {sorted(allowed)}")
    complain(
        problems,
        "Move the code to the layer that may do this, or pass the value in as an argument (design: May import).",
    )


def test_a_third_party_is_imported_only_where_the_table_says() -> None:
    problems = []
    for module in modules():
        for imported in imports(module):
            top = imported.target.split(".")[0]
            if top in sys.stdlib_module_names or top in ("millstream", "__future__", ""):
                continue
            longest = ".".join(imported.target.split(".")[:2])
            for package in {top, longest} & THIRD_PARTIES.keys() or {top}:
                places = THIRD_PARTIES.get(package, set())
                if not _is_in(module.name, places):
                    where = ", ".join(sorted(places)) or "nowhere: it is not in THIRD_PARTIES"
                    problems.append(f"{module.where}:{imported.line}: imports {package}, allowed in: {where}")
    complain(problems, "Use the port of the layer that owns this dependency.")


def test_pure_layers_have_no_clock_no_chance_and_no_world() -> None:
    problems = []
    for module in modules():
        banned = BANNED_STANDARD.get(module.layer, set())
        for imported in imports(module):
            top = imported.target.split(".")[0]
            if top in banned or (top in ONLY_IN and not _is_in(module.name, ONLY_IN[top])):
                problems.append(f"{module.where}:{imported.line}: imports {top}")
        if module.layer in ("core", "model"):
            problems.extend(
                f"{module.where}:{node.lineno}: calls .{node.func.attr}()"
                for node in ast.walk(module.tree)
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in CLOCK_CALLS
                and not node.args
            )
    complain(problems, "Time, chance and the world come in as arguments; the shell brings them.")


def test_imports_are_absolute() -> None:
    problems = [
        f"{module.where}:{imported.line}: {imported.target}"
        for module in modules()
        for imported in imports(module)
        if imported.target.startswith(".")
    ]
    complain(problems, "Write the import from `millstream`.")


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module.name: {name for name, _ in own_imports(module)} - {module.name} for module in modules()}
    done: set[str] = set()
    problems = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            problems.append(" -> ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for below in sorted(graph.get(name, ())):
                visit(below, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
    complain(problems, "Move what both need into a third module; imports hidden in functions count too.")
