"""Recorded exchanges of the reference server, asked of ours: the same requests in, answers of the same shape out.

``recordings/*.json`` hold requests in their order, each with the ``status``, ``type`` (content type) and ``response``
that were recorded, and ``here``, where ours is meant to differ: its own ``status``, ``type`` or ``error``, paths of the
answer that it is ``without``, or a ``response`` of its own; and ``why``.

Ids, times and the like stand there as aliases, ``<ulid3>``: one text for one alias. Whatever else is recorded must be
there, with its value; more may be. Three rules hold everywhere: errors may use other words where ``here`` gives them,
times and sizes need only be of their kind, and nothing is cached, so that no answer says until when.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings"
ALIAS = re.compile(r"<(?:ulid|uuid|sha1_|hex\d+_|b64_|now)\d*[^>]*>")
REPEATED = re.compile(r"<(\d+) x '(.)'>")
NUMBERED = re.compile(r"\[\d+\]")
NOT_CACHED = "cached_until"
OF_THEIR_KIND = {
    "ts",
    "received_at",
    "fetched_at",
    "run_started_at",
    "ended_at",
    "updatedAt",
    "at",
    "position",
    "JobID",
}
ERRORS = {"error", "errors"}
TEXTS_OF_JSON = {"output", "raw", "payloads"}


def exchanges(name: str) -> list[dict[str, Any]]:
    """The exchanges of a recording."""
    read: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return read


class Aliases:
    """What stands for what, learned from answers."""

    def __init__(self, **known: str) -> None:
        self.known = {f"<{alias}>": text for alias, text in known.items()}

    def put_in(self, value: Any) -> Any:
        """The value with the texts that aliases stand for; an alias that nothing stands for yet is an error."""
        match value:
            case str():
                text = REPEATED.sub(lambda found: found[2] * int(found[1]), value)
                return ALIAS.sub(lambda found: self.known[found[0]], text)
            case list():
                return [self.put_in(each) for each in value]
            case dict():
                return {name: self.put_in(each) for name, each in value.items()}
            case _:
                return value

    def differences(self, recorded: Any, ours: Any, where: str = "") -> Iterator[str]:
        """What ours lacks of what was recorded."""
        name = where.rpartition(".")[2].partition("[")[0]
        if isinstance(recorded, str) and name in TEXTS_OF_JSON and isinstance(ours, str):
            try:
                recorded, ours = json.loads(recorded), json.loads(ours)
            except ValueError:
                pass
            else:
                yield from self.differences(recorded, ours, f"{where}.(json)")
                return
        match recorded:
            case dict() if isinstance(ours, dict):
                for key, each in recorded.items():
                    if key == NOT_CACHED:
                        continue
                    if key not in ours:
                        yield f"{where}.{key}: not there"
                    else:
                        yield from self.differences(each, ours[key], f"{where}.{key}")
            case list() if isinstance(ours, list):
                if len(recorded) != len(ours):
                    yield f"{where}: {len(recorded)} recorded, {len(ours)} here"
                for number, (each, own) in enumerate(zip(recorded, ours, strict=False)):
                    yield from self.differences(each, own, f"{where}[{number}]")
            case str() if ALIAS.fullmatch(recorded):
                if not isinstance(ours, str) or not ours or self.known.setdefault(recorded, ours) != ours:
                    yield f"{where}: {recorded} is {self.known.get(recorded)!r}, here {ours!r}"
            case _ if name in OF_THEIR_KIND:
                if type(recorded) is not type(ours):
                    yield f"{where}: {recorded!r} recorded, {ours!r} here"
            case _ if self.put_in(recorded) != ours:
                yield f"{where}: {recorded!r} recorded, {ours!r} here"


def compared(exchange: dict[str, Any], aliases: Aliases, answered: tuple[int, Any, str]) -> list[str]:
    """What is not as recorded, and not said to differ. ``answered``: status, body and content type."""
    status, body, content_type = answered
    here: dict[str, Any] = exchange.get("here", {})
    assert not here or here["why"], "a difference has a reason"
    expected = exchange | here
    recorded = expected.get("response")
    problems = []
    if status != expected["status"]:
        problems.append(f"status {expected['status']} expected, {status} here")
    if expected.get("type") not in (None, content_type):
        problems.append(f"type {expected['type']!r} expected, {content_type!r} here")
    if "error" in here:
        said = body.get("error") or "".join(str(error["message"]) for error in body.get("errors", ()))
        if here["error"] not in said:
            problems.append(f"error {here['error']!r} expected, {said!r} here")
        is_same = here.get("status", exchange["status"]) == exchange["status"] and isinstance(recorded, dict)
        recorded = {name: each for name, each in recorded.items() if name not in ERRORS} if is_same else {}
    if isinstance(recorded, list) or (isinstance(recorded, dict) and "_text" not in recorded):
        left_out = tuple(f".{path}{end}" for path in here.get("without", ()) for end in ":.[")
        every = (
            (wrong, NUMBERED.sub("[]", wrong).replace(".[]", "[]", 1)) for wrong in aliases.differences(recorded, body)
        )
        problems += [wrong for wrong, place in every if not f".{place.lstrip('.')}".startswith(left_out)]
    return [f"{exchange['request']}: {problem}" for problem in problems]
