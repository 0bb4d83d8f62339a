"""Arguments parsed, and what the parser has to say against them: it repeats them, whatever they hold."""

from __future__ import annotations

import io
import sys
from typing import IO, Protocol, runtime_checkable

import typer

from millstream.model.text.printable import printable
from millstream.model.text.redaction import redacted


@runtime_checkable
class UsageError(Protocol):
    """The parser's own error. Typer brings its parser with it, under a name that is not public."""

    exit_code: int

    def show(self, file: IO[str]) -> None: ...


def parsed(app: typer.Typer) -> int:
    """Run the command that the arguments name; 2 for wrong usage, which is said on stderr."""
    try:
        app(prog_name="millstream", standalone_mode=False)
    except Exception as error:
        if not isinstance(error, UsageError):
            raise
        said = io.StringIO()
        error.show(said)
        sys.stderr.write(printable(redacted(said.getvalue())))
        return error.exit_code
    return 0
