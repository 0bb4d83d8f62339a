"""Expressions over an event: the ``if`` of a trigger, written in CEL (the Common Expression Language).

    event.name == 'order/paid' && event.data.amount >= 100        event.data.tags.exists(t, t == 'vip')

The variable ``event`` has the fields of the event: ``name``, ``data``, ``id``, ``ts``, ``user``, ``v``. A wait may also
name the arriving event ``async``.

**An expression without an answer does not match.** CEL makes an error of a missing field, of a field below something
that is not an object, and of comparing values that have no order (``null < 1``, ``'1' < 1``). Events of one name
differ from producer to producer, so here such an error is *false*, never a failure of the event. Errors obey CEL's
logic first: ``event.data.gone == 1 || true`` is true, ``!(event.data.gone == 1)`` and ``event.data.gone == null``
have no answer; ask ``has(event.data.gone)``. An ``if`` that answers with something other than true or false is the
author's mistake and raises.

Three things keep an expression cheap and safe on the path of every event:

1. CEL is given only the paths that the expression names, not the whole payload: converting a large one costs
   milliseconds.
2. The common form, comparisons ``path op literal`` joined by ``&&`` and ``||``, is answered by closures, without CEL. A
   property test holds both to the same answers.
3. Values that the library cannot carry are changed on the way, for both: an integer beyond 64 bits becomes a double (as
   any JSON number may), NUL and lone surrogates become U+FFFD (the library would cut the text, or fail).

Rule kept: pure. CEL has no clock, no input and no random function, and the library stops a loop after 10,000 turns.
To add a form to the closures: ``_closure``, and a strategy in the property test.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from cel_expr_python import cel

from millstream.core.triggers.equality import Equality, equality_of
from millstream.core.triggers.expression_tree import Call, Literal, Node, calls, path_of, paths_read, read_tree
from millstream.core.triggers.mixed_numbers import RENAMED, functions, renamed
from millstream.errors import FunctionError

EXPRESSION_CHARS_MAX = 4_096
VALUE_DEPTH_MAX = 64
COMPILED_MAX = 4_096

EVENT_FIELDS = ("name", "data", "id", "ts", "key", "user", "v", "meta")
"""The fields of an event that an expression may see: those that functions see."""
NOT_FOUND = "Key not found"
NO_OVERLOAD = "No matching overload"

Predicate = Callable[[Mapping[str, object]], bool | None]
"""True, False, or None where there is no answer."""
Compares = Callable[..., bool]


class Answer(NamedTuple):
    """What an evaluation gave: a plain value, or why there is none (``why`` is empty when there is one)."""

    value: object
    why: str

    @property
    def is_missing(self) -> bool:
        """Whether there is no answer because the event lacks a field."""
        return NOT_FOUND in self.why


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; equal when text and variables are. Made by ``compile_expression``.

    ``equality``: two values that are equal whenever it holds, where it says so plainly.
    ``paths`` are the paths it reads, variable first. ``is_closure`` tells that ``matches`` needs no CEL.
    """

    text: str
    variables: tuple[str, ...]
    paths: frozenset[tuple[str, ...]] = field(compare=False)
    _program: cel.Expression = field(compare=False, repr=False)
    _mixed: cel.Expression | None = field(compare=False, repr=False)
    _wanted: Mapping[str, _Wanted | None] = field(compare=False, repr=False)
    equality: Equality | None = field(compare=False)
    _closure: Predicate | None = field(compare=False, repr=False)

    @property
    def is_closure(self) -> bool:
        """Whether ``matches`` is answered by a closure instead of CEL."""
        return self._closure is not None

    @property
    def gives(self) -> str:
        """The type of what it gives, such as ``string``; empty where that depends on the event."""
        gives = self._program.return_type()
        return "" if gives == cel.Type.DYN else str(gives.name()).lower()

    def matches(self, event: Mapping[str, object]) -> bool:
        """Whether the event fulfils the expression. False when there is no answer, for instance a missing field.

        Raises FunctionError when the answer is neither true nor false.
        """
        return self.verdict(event).value is True

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """The fields of the event that it reads and no event can have, sorted."""
        read = {path[1] for path in self.paths if path[0] == "event" and len(path) > 1}
        return tuple(sorted(read.difference(EVENT_FIELDS)))

    def verdict(self, event: Mapping[str, object]) -> Answer:
        """True or false for an event, or CEL's reason why there is no answer.

        Raises FunctionError when the answer is neither true nor false.
        """
        if self._closure is not None:
            known = self._closure(event)
            if known is not None:
                return HOLDS if known else HOLDS_NOT
        answer = self.evaluate({"event": event})
        if answer.why or isinstance(answer.value, bool):
            return answer
        raise FunctionError(
            f"expression {self.text!r} gave {answer.value!r:.100} for event {event.get('name')!r:.100}, expected true"
            " or false. Compare it with something: event.data.x == 'yes'."
        )

    def read_of(self, variable: str, value: Mapping[str, object]) -> object:
        """The part of a variable's value that it reads, as JSON can hold it."""
        try:
            return _pruned(value, self._wanted.get(variable, _NOTHING))
        except _TooDeep:
            return {}

    def evaluate(self, variables: Mapping[str, Mapping[str, object]]) -> Answer:
        """Evaluate with CEL over the named variables; errors of CEL come back as ``why``, nothing is raised."""
        try:
            given = {
                name: _pruned(variables[name], wanted) for name, wanted in self._wanted.items() if name in variables
            }
            answer = _evaluated(self._program, given)
            if NO_OVERLOAD in answer.why and self._mixed is not None:
                mixed = _evaluated(self._mixed, given)
                return answer if NO_OVERLOAD in mixed.why else mixed
        except (RuntimeError, _TooDeep) as error:
            return Answer(None, str(error))
        return answer


HOLDS = Answer(True, "")
HOLDS_NOT = Answer(False, "")


def _evaluated(program: cel.Expression, given: Mapping[str, object]) -> Answer:
    result = program.eval(data=given)
    value = _plain(result)
    return Answer(None, str(value)) if result.type() == cel.Type.ERROR else Answer(value, "")


def _plain(result: cel.Value) -> object:
    """The value as Python has it.

    The library must not be asked for a null, nor for what holds one: it gives back a reference to None that it never
    took, and some thousands of them end the process (0.1.3; Python before 3.12 counts them).
    """
    kind = result.type()
    if kind == cel.Type.NULL:
        return None
    if kind == cel.Type.MAP:
        return {key: _plain(part) for key, part in result.value().items()}
    if kind == cel.Type.LIST:
        return [_plain(part) for part in result.value()]
    return result.plain_value()


@lru_cache(maxsize=COMPILED_MAX)
def compile_expression(text: str, variables: tuple[str, ...] = ("event",), *, is_condition: bool = True) -> Expression:
    """Compile an expression once, to ask it for many events: a condition, or one that gives any value.

    Raises FunctionError, with the position and advice, when the text is not CEL, names other variables, is longer than
    ``EXPRESSION_CHARS_MAX``; or is a condition and can never give true or false.
    """
    if len(text) > EXPRESSION_CHARS_MAX:
        raise FunctionError(
            f"expression has {len(text)} characters, expected at most {EXPRESSION_CHARS_MAX}: {text[:60]!r}…. Move the"
            " decision into the function's body."
        )
    if not text.strip():
        raise FunctionError("expression is empty, expected for instance: event.data.x == 'yes'. Or leave it out.")
    unusual = _NOT_CARRIED.search(text)
    if unusual is not None:
        raise FunctionError(
            f"expression {text!r} is not valid at column {unusual.start() + 1}: expected text without NUL and lone"
            f" surrogates, got {unusual[0]!r}. Remove that character."
        )
    program, mixed = _programs(text, variables)
    gives = program.return_type()
    if is_condition and gives not in (cel.Type.BOOL, cel.Type.DYN):
        raise FunctionError(
            f"expression {text!r} always gives {gives.name().lower()}, expected true or false. Compare it with"
            " something: event.data.x == 'yes'."
        )
    tree = read_tree(bytes(program.serialize()))
    paths = frozenset(path for path in paths_read(tree) if path[0] in variables)
    return Expression(text, variables, paths, program, mixed, _wanted(paths).parts, equality_of(tree), _closure(tree))


def _programs(text: str, variables: tuple[str, ...]) -> tuple[cel.Expression, cel.Expression | None]:
    """What CEL makes of the text; and, where it counts, the same for mixed numbers. Raises FunctionError."""
    environment = _environment(variables)
    try:
        program = environment.compile(text)
    except RuntimeError as error:
        if _MIXED.search(str(error)) is None:
            raise FunctionError(_bad_expression(text, variables, str(error))) from None
        program = environment.compile(text, disable_check=True)  # Its types are only known when it counts.
        if not _counts(program):
            raise FunctionError(_bad_expression(text, variables, str(error))) from None
    if not _counts(program):
        return program, None
    unchecked = environment.compile(text, disable_check=True)
    return program, environment.deserialize(renamed(bytes(unchecked.serialize())))


def _counts(program: cel.Expression) -> bool:
    return any(name.encode() in RENAMED for name in calls(read_tree(bytes(program.serialize()))))


@lru_cache(maxsize=16)
def _environment(variables: tuple[str, ...]) -> cel.Env:
    kind = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(variables=dict.fromkeys(variables, kind), functions=functions())


_MIXED = re.compile(
    r"no matching overload for '_([-+*/%<>]|[=!<>]=)_' applied to '\((int|double|dyn), (int|double|dyn)\)'"
)


# --- what a bad expression is told ----------------------------------------------------------------

_POSITION = re.compile(r"<input>:(-?\d+):(-?\d+): ([^\n]*)")
_ADVICE = (
    (re.compile(r"[^=!<>]=[^=]"), "Write == to compare."),
    (re.compile(r"==="), "Write == to compare."),
    (re.compile(r"\b(and|or|not)\b"), "Write && for and, || for or, ! for not."),
    (re.compile(r"[^&]&[^&]|[^|]\|[^|]"), "Write && for and, || for or."),
    (re.compile(r"\b(True|False|None|undefined|nil)\b"), "Write true, false or null."),
    (re.compile(r"[\"']\s*$|[\"']"), "Check that every quote is closed."),
)


def _bad_expression(text: str, variables: tuple[str, ...], problem: str) -> str:
    found = _POSITION.search(problem)
    line, column, what = (int(found[1]), int(found[2]), found[3]) if found else (-1, -1, problem.strip())
    what = what.removesuffix(" (in container '')").strip()
    where = f" at line {line}, column {column}" if line > 0 else ""
    return f"expression {text!r} is not valid{where}: {what}. {_advice(text, variables, what)}"


def _advice(text: str, variables: tuple[str, ...], what: str) -> str:
    if "recursion" in what:
        return "It is nested too deeply: split it, or move the decision into the function's body."
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
    for pattern, advice in _ADVICE[:-1]:
        if pattern.search(unquoted):
            return advice
    if "undeclared reference to" in what:
        known = ", ".join(variables)
        return (
            f"Known names: {known}. Fields are event.data.<field>; write event.data['my-field'] for other characters."
        )
    if "overload" in what:
        return "The two sides have different types: compare a number with a number, a text with a text."
    if len(re.findall(r"['\"]", unquoted)) % 2:
        return _ADVICE[-1][1]
    return "Expected CEL, for instance: event.data.amount >= 100 && event.data.currency == 'EUR'."


# --- giving CEL only what it reads ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The paths of an expression as a tree; a part that is None is wanted whole."""

    parts: Mapping[str, _Wanted | None]


_NOTHING: Final = _Wanted({})


class _TooDeep(Exception):
    """A value is nested deeper than ``VALUE_DEPTH_MAX``; the library would convert it by recursion."""


def _wanted(paths: Iterable[tuple[str, ...]]) -> _Wanted:
    below: dict[str, list[tuple[str, ...]]] = {}
    for first, *rest in paths:
        below.setdefault(first, []).append(tuple(rest))
    return _Wanted({key: None if () in rests else _wanted(rests) for key, rests in below.items()})


def _pruned(value: object, wanted: _Wanted | None) -> object:
    """The value with nothing but what is wanted, as the library can carry it."""
    if wanted is None:
        return _carried(value, VALUE_DEPTH_MAX)
    if isinstance(value, Mapping):
        return {_text(key): _pruned(value[key], part) for key, part in wanted.parts.items() if key in value}
    if isinstance(value, list | tuple):
        return []  # A field of a list is an error whatever the list holds.
    return _carried(value, VALUE_DEPTH_MAX)


def _carried(value: object, depth_left: int) -> object:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _number(value)
    if depth_left == 0:
        raise _TooDeep(f"a value is nested deeper than {VALUE_DEPTH_MAX} levels")
    if isinstance(value, Mapping):
        return {_text(str(key)): _carried(part, depth_left - 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_carried(part, depth_left - 1) for part in value]
    return value


_NOT_CARRIED = re.compile("[\0\ud800-\udfff]")


def _text(text: str) -> str:
    return _NOT_CARRIED.sub("\ufffd", text)


def _number(number: int | float) -> int | float:
    """CEL has 64-bit integers; a larger one is taken as the double it would be in JSON."""
    if isinstance(number, float) or -(1 << 63) <= number < 1 << 63:
        return number
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


# --- the common form, without CEL -----------------------------------------------------------------
#
# Only && and || join the comparisons, never !. What has no answer is None, and joins as in CEL: a side that decides
# alone does so whatever the other is.

_OPERATORS: Mapping[str, Compares] = {
    "_==_": operator.eq,
    "_!=_": operator.ne,
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
}
_MIRRORED = {"_<_": "_>_", "_<=_": "_>=_", "_>_": "_<_", "_>=_": "_<=_"}


def _closure(node: Node) -> Predicate | None:
    """A closure that answers as CEL does, or None when the expression has another form."""
    match node:
        case Call(function="_&&_" | "_||_", arguments=(left, right)):
            first, second = _closure(left), _closure(right)
            if first is None or second is None:
                return None
            return _both(first, second) if node.function == "_&&_" else _either(first, second)
        case Call(function=function, arguments=(Literal() as literal, other)) if function in _OPERATORS:
            return _comparison(_MIRRORED.get(function, function), other, literal)
        case Call(function=function, arguments=(other, Literal() as literal)) if function in _OPERATORS:
            return _comparison(function, other, literal)
        case _:
            return None


def _both(first: Predicate, second: Predicate) -> Predicate:
    def both(event: Mapping[str, object]) -> bool | None:
        one = first(event)
        if one is False:
            return False
        other = second(event)
        return other if one or other is False else None

    return both


def _either(first: Predicate, second: Predicate) -> Predicate:
    def either(event: Mapping[str, object]) -> bool | None:
        one = first(event)
        if one:
            return True
        other = second(event)
        return other if one is False or other else None

    return either


def _comparison(function: str, other: Node, literal: Literal) -> Predicate | None:
    path = path_of(other)
    if path is None or path[0] != "event" or len(path) < 2 or any(_NOT_CARRIED.search(key) for key in path):
        return None
    test = _test(function, literal)
    if test is None:
        return None
    above, last = path[1:-1], path[-1]

    def compares(event: Mapping[str, object]) -> bool | None:
        value: object = event
        for key in above:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or last not in value:
            return None  # No such field: no answer.
        return test(value[last])

    return compares


def _test(function: str, literal: Literal) -> Callable[[object], bool | None] | None:
    """``value op literal`` for one operator and one literal; values of another type differ and have no order."""
    compare, expected = _OPERATORS[function], literal.value
    differs = {"_==_": False, "_!=_": True}.get(function)
    match literal.kind, expected:
        case "null", None:
            if function not in ("_==_", "_!=_"):
                return None  # Never has an answer; not worth a closure.
            return lambda value: (value is None) is not differs
        case "bool", bool():
            return lambda value: compare(value, expected) if isinstance(value, bool) else differs
        case "string", str():
            return lambda value: compare(_text(value), expected) if isinstance(value, str) else differs
        case (("int" | "double"), (int() | float())):
            return lambda value: _compare_numbers(compare, value, expected) if _is_number(value) else differs
        case _:
            return None


def _is_number(value: object) -> bool:
    # Python's True equals 1; CEL's does not.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compare_numbers(compare: Compares, value: object, expected: int | float) -> bool:
    assert isinstance(value, int | float)
    number = _number(value)
    if type(number) is type(expected):
        return compare(number, expected)
    return compare(float(number), float(expected))  # CEL compares an int with a double as doubles.
