"""Python classes from an Avro schema: what ``millstream schemas gen NAME`` prints.

A record becomes a frozen dataclass with its docs as comments; an enum a Literal; times stay the numbers or texts that
JSON has for them (``schemas/README.md``). ``Context[OrderPlaced]`` then checks and decodes an event's data.

The reverse, a schema from Python, is in ``sdk/schema_of.py``.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any, Final

_PYTHON_TYPES: Final = {
    "null": "None",
    "boolean": "bool",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "bytes": "str",
    "string": "str",
}
_TIMES: Final = ("timestamp-", "local-timestamp-", "date", "time-")
_NO_DEFAULT: Final = object()


def python_of(schema: Mapping[str, Any], source: str) -> str:
    """A module with a dataclass for each record of the schema; ``source`` names where it came from."""
    classes: dict[str, str] = {}
    _type(schema, classes)
    body = "\n\n".join(classes.values())
    imports = ["from dataclasses import dataclass" + (", field" if "field(" in body else "")]
    if "Literal[" in body:
        imports.append("from typing import Literal")
    lines = [f'"""Made of {source} by: millstream schemas gen. Change the schema, then make it again."""', ""]
    return "\n".join([*lines, "from __future__ import annotations", "", *imports, "", "", body, ""])


def _type(schema: Any, classes: dict[str, str]) -> str:
    if isinstance(schema, list):
        parts = [_type(branch, classes) for branch in schema]
        return " | ".join(sorted(dict.fromkeys(parts), key=lambda part: part == "None"))
    if isinstance(schema, str):
        return _PYTHON_TYPES.get(schema, _short(schema))
    kind, logical = schema["type"], schema.get("logicalType", "")
    match kind:
        case "record" | "error":
            return _record(schema, classes)
        case "enum":
            return f"Literal[{', '.join(repr(symbol) for symbol in schema['symbols'])}]"
        case "array":
            return f"list[{_type(schema['items'], classes)}]"
        case "map":
            return f"dict[str, {_type(schema['values'], classes)}]"
        case "fixed":
            return "str"
    python_type = _type(kind, classes)
    if logical == "decimal":
        return "str | int"
    return f"{python_type} | str" if logical.startswith(_TIMES) else python_type


def _record(schema: Mapping[str, Any], classes: dict[str, str]) -> str:
    name = _short(schema["name"])
    if name in classes:
        return name
    classes[name] = ""  # Holds its place: a record inside itself finds it.
    lines = ["@dataclass(frozen=True, kw_only=True)", f"class {name}:"]
    if schema.get("doc"):
        lines += [f"    {_quoted(schema['doc'])}", ""]
    for each in schema["fields"]:
        lines.append(f"    {_field(each, classes)}")
    if not schema["fields"]:
        lines.append("    pass")
    del classes[name]  # Records it uses stand before it.
    classes[name] = "\n".join(lines) + "\n"
    return name


def _field(field: Mapping[str, Any], classes: dict[str, str]) -> str:
    name = field["name"] + ("_" if keyword.iskeyword(field["name"]) else "")
    text = f"{name}: {_type(field['type'], classes)}"
    default = field.get("default", _NO_DEFAULT)
    if default is not _NO_DEFAULT:
        if default in ([], {}):
            text += f" = field(default_factory={type(default).__name__})"
        elif isinstance(default, (str, int, float, bool)) or default is None:
            text += f" = {default!r}"
        else:
            text += f" = field(default_factory=lambda: {default!r})"
    doc = " ".join(str(field.get("doc", "")).split())
    return f"{text}  # {doc}" if doc else text


def _short(full_name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", full_name.rpartition(".")[2])


def _quoted(doc: str) -> str:
    return '"""' + " ".join(doc.split()).replace("\\", "\\\\").replace('"""', "'''") + '"""'
