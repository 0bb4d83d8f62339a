"""Is a schema that cannot read older data found out?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from millstream.errors import ConfigError
from millstream.wire.compatibility import backward, full

STRING = {"name": "id", "type": "string"}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
COUNT = {"name": "count", "type": "long"}


def schema(*fields: Any) -> str:
    return json.dumps({"type": "record", "name": "Order", "fields": fields})


def test_a_field_with_a_default_may_come_and_go() -> None:
    assert full(("2", schema(STRING, NOTE)), [("1", schema(STRING))]) == []


def test_a_field_without_a_default_may_go_for_events_and_not_for_ours() -> None:
    assert backward(("2", schema(STRING)), [("1", schema(STRING, COUNT))]) == []
    (problem,) = full(("version 2", schema(STRING)), [("version 1", schema(STRING, COUNT))])
    assert "version 1 cannot read what version 2 wrote" in str(problem)


def test_every_older_version_counts_not_only_the_last() -> None:
    renamed = schema(STRING, {"name": "count", "type": "string"})
    problems = backward(("3", renamed), [("1", schema(STRING, COUNT)), ("2", schema(STRING))])
    assert [problem.writer for problem in problems] == ["1", "2"]
    assert "count" in problems[1].reason


def test_text_that_is_no_avro_is_named() -> None:
    with pytest.raises(ConfigError, match="version 9"):
        backward(("version 9", '{"type": "nothing"}'), [("1", schema())])
