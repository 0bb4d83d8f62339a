"""Does this JSON value fit that Avro schema, and if not, where? A schema becomes one function, once.

Avro libraries answer while they encode, with the name of a type; a person who sent the event needs the path and the
value. So a parsed schema is compiled into nested closures, each taking

    (value, depth, tries) -> None, or the Problem with its path from here on

A parent puts its own segment in front of a child's path; nothing is built while all is well.

The rules: the value is never changed; a missing field with a default fits; unknown fields fit unless the record (or,
for all its records, the top) says ``"additionalFields": false``; a union's problem is that of the branch that fitted
furthest. Depth and union tries have a maximum, so that no sender can make a check run long.

Which JSON value stands for which type without insides: ``avro_leaves.py``. Add a type with insides: one branch in
``_Compiler.node``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from millstream.wire.avro_leaves import PRIMITIVES, Leaf, leaf_of

DEPTH_MAX: Final = 64
"""Objects and arrays inside each other."""
UNION_TRIES_MAX: Final = 1_000
"""Objects tried against branches of unions with several records, in one check; nested ones multiply."""
PATH_CHARS_MAX: Final = 200
GOT_CHARS_MAX: Final = 60
EXPECTED_CHARS_MAX: Final = 300
FIELDS_SHOWN_MAX: Final = 8

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a value does not fit: where (field names, map keys and array places) and what is wrong there."""

    path: tuple[str | int, ...]
    message: str

    def under(self, segment: str | int) -> Problem:
        """The same problem, seen from one level up."""
        return Problem((segment, *self.path), self.message)

    def __str__(self) -> str:
        if not self.path:
            return f"the data {self.message}"
        return f"field {path_text(self.path)!r} {self.message}"


Check = Callable[[Any, int, list[int]], Problem | None]


@dataclass(frozen=True, slots=True)
class _Node:
    expected: str
    check: Check
    is_object: bool = False


class _TooMuch(Exception):
    """The value went over a limit of the check itself; no branch of a union may go on."""


def compile_check(schema: Any) -> Callable[[Any], Problem | None]:
    """A function that tells the first problem of a value, or None where it fits. ``schema`` is parsed by fastavro.

    About 0.2 µs a field. Raises ValueError where the schema cannot be used: a default that does not fit its field, two
    fields of one name, a name that is not Avro's.
    """
    compiler = _Compiler(schema)
    check = compiler.node(schema).check
    compiler.check_defaults()

    def problem_of(value: Any) -> Problem | None:
        try:
            return check(value, 1, [UNION_TRIES_MAX])
        except _TooMuch as limit:
            return Problem((), str(limit))

    return problem_of


def path_text(path: tuple[str | int, ...]) -> str:
    """``items[2].amount_cents``; a key that is no identifier as ``['eu west']``. The middle of a long one is cut."""
    parts: list[str] = []
    for segment in path:
        if isinstance(segment, int):
            parts.append(f"[{segment}]")
        elif _IDENTIFIER.fullmatch(segment):
            parts.append(f".{segment}" if parts else segment)
        else:
            parts.append(f"[{_cut(segment)!r}]")
    text = "".join(parts)
    if len(text) <= PATH_CHARS_MAX:
        return text
    half = PATH_CHARS_MAX // 2
    return f"{text[:half]}…{text[-half:]}"


def shown(value: Any) -> str:
    """A value for a message: short, in JSON's words, without the insides of objects and arrays."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(_cut(value))
        case int() if value.bit_length() > 128:
            return f"an integer of {value.bit_length()} bits"  # Python refuses to print the largest.
        case int() | float():
            return repr(value)
        case Mapping():
            return f"an object of {len(value)} fields"
        case list() | tuple():
            return f"an array of {len(value)}"
        case _:
            return f"a Python {type(value).__name__[:GOT_CHARS_MAX]}"


def _cut(text: str) -> str:
    return text if len(text) <= GOT_CHARS_MAX else f"{text[:GOT_CHARS_MAX]}…"


class _Compiler:
    """One schema under way: its named types so far and the defaults to look at when all are known."""

    def __init__(self, schema: Any) -> None:
        self._open = _additional_fields(schema, default=True)
        self._named: dict[str, _Node] = {}
        self._defaults: list[tuple[str, Check, Any]] = []

    def node(self, schema: Any) -> _Node:
        """The compiled form of any schema. Its closures may name types that are compiled later: recursion."""
        match schema:
            case list():
                return self._union([self.node(branch) for branch in schema])
            case str() if schema not in PRIMITIVES:
                return self._named[schema]
            case str():
                schema = {"type": schema}
        leaf = leaf_of(schema)
        if leaf is not None:
            node = _leaf_node(leaf)
        elif schema["type"] == "array":
            node = _array(self.node(schema["items"]))
        elif schema["type"] == "map":
            node = _map(self.node(schema["values"]))
        else:
            return self._record(schema)
        if "name" in schema:
            self._named[_avro_name(schema["name"])] = node
        return node

    def check_defaults(self) -> None:
        """Raises ValueError at the first default that its own field would refuse."""
        for where, check, default in self._defaults:
            problem = check(default, 1, [UNION_TRIES_MAX])
            if problem is not None:
                at = f" at {path_text(problem.path)!r}" if problem.path else ""
                raise ValueError(f"the default of {where}{at} {problem.message}")

    def _record(self, schema: Mapping[str, Any]) -> _Node:
        name = _avro_name(schema["name"])
        checks: dict[str, Check] = {}

        # The insides are filled in below: a field may be of this very type.
        required: dict[str, str] = {}
        is_open = _additional_fields(schema, default=self._open)
        node = _Node(f"an object ({name.rpartition('.')[2]})", _record_check(name, checks, required, is_open), True)
        self._named[name] = node
        for field in schema["fields"]:
            field_name = field["name"]
            if not isinstance(field_name, str) or not _IDENTIFIER.fullmatch(field_name):
                raise ValueError(f"the field name {field_name!r} of {name} is not an Avro name (letters, digits and _)")
            if field_name in checks:
                raise ValueError(f"{name} has two fields named {field_name!r}")
            inside = self.node(field["type"])
            checks[field_name] = inside.check
            if "default" in field:
                self._defaults.append((f"field {field_name!r} of {name}", inside.check, field["default"]))
            else:
                required[field_name] = inside.expected
        return node

    def _union(self, branches: list[_Node]) -> _Node:
        names = [branch.expected for branch in branches]
        expected = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
        must = f"must be {expected[:EXPECTED_CHARS_MAX]}"
        checks = tuple(branch.check for branch in branches)
        costly = sum(branch.is_object for branch in branches) > 1

        def check(value: Any, depth: int, tries: list[int]) -> Problem | None:
            furthest: Problem | None = None
            if costly and isinstance(value, Mapping):
                tries[0] -= 1
                if tries[0] < 0:
                    raise _TooMuch(f"is too much to check: more than {UNION_TRIES_MAX} objects in unions of records")
            for branch in checks:
                problem = branch(value, depth, tries)
                if problem is None:
                    return None
                if furthest is None or len(problem.path) > len(furthest.path):
                    furthest = problem
            if furthest is not None and furthest.path:
                return furthest
            return Problem((), f"{must}, got {shown(value)}")

        return _Node(expected, check, any(branch.is_object for branch in branches))


def _leaf_node(leaf: Leaf) -> _Node:
    fits, must = leaf.fits, f"must be {leaf.expected[:EXPECTED_CHARS_MAX]}"

    def check(value: Any, _depth: int, _tries: list[int]) -> Problem | None:
        if fits(value):
            return None
        return Problem((), f"{must}, got {shown(value)}")

    return _Node(leaf.expected, check)


def _array(items: _Node) -> _Node:
    check_item = items.check

    def check(value: Any, depth: int, tries: list[int]) -> Problem | None:
        if not isinstance(value, (list, tuple)):
            return Problem((), f"must be an array, got {shown(value)}")
        _check_depth(depth)
        for place, item in enumerate(value):
            problem = check_item(item, depth + 1, tries)
            if problem is not None:
                return problem.under(place)
        return None

    return _Node("an array", check)


def _map(values: _Node) -> _Node:
    check_value = values.check

    def check(value: Any, depth: int, tries: list[int]) -> Problem | None:
        if not isinstance(value, Mapping):
            return Problem((), f"must be an object, got {shown(value)}")
        _check_depth(depth)
        for key, item in value.items():
            if not isinstance(key, str):
                return Problem((), f"must have text as keys, got the key {shown(key)}")
            problem = check_value(item, depth + 1, tries)
            if problem is not None:
                return problem.under(key)
        return None

    return _Node("an object", check, True)


def _record_check(name: str, checks: Mapping[str, Check], required: Mapping[str, str], is_open: bool) -> Check:
    must = f"must be an object ({name.rpartition('.')[2]})"

    def check(value: Any, depth: int, tries: list[int]) -> Problem | None:
        if not isinstance(value, Mapping):
            return Problem((), f"{must}, got {shown(value)}")
        _check_depth(depth)
        get = value.get
        for field, check_field in checks.items():
            inside = get(field, _MISSING)
            if inside is _MISSING:
                if field in required:
                    expected = required[field][:EXPECTED_CHARS_MAX]
                    return Problem((field,), f"is missing: must be {expected}, and the schema has no default for it")
                continue
            problem = check_field(inside, depth + 1, tries)
            if problem is not None:
                return problem.under(field)
        return None if is_open else _unknown_field(value, checks)

    return check


def _unknown_field(value: Mapping[Any, Any], checks: Mapping[str, Check]) -> Problem | None:
    for key in value:
        if key not in checks:
            known = ", ".join(list(checks)[:FIELDS_SHOWN_MAX]) or "none"
            more = ", …" if len(checks) > FIELDS_SHOWN_MAX else ""
            return Problem((str(key),), f"is unknown: must be one of the schema's fields ({(known + more)[:200]})")
    return None


def _check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise _TooMuch(f"is nested too deep: must be at most {DEPTH_MAX} objects and arrays inside each other")


def _additional_fields(schema: Any, *, default: bool) -> bool:
    allowed = schema.get("additionalFields", default) if isinstance(schema, Mapping) else default
    if not isinstance(allowed, bool):
        raise ValueError(f"'additionalFields' must be true or false, got {shown(allowed)}")
    return allowed


def _avro_name(name: Any) -> str:
    if not isinstance(name, str) or not all(_IDENTIFIER.fullmatch(part) for part in name.split(".")):
        raise ValueError(f"the type name {name!r} is not an Avro name (letters, digits and _, with dots between)")
    return name
