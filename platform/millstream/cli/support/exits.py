"""Exit codes, and errors as one line on stderr.

    0  ok                                       4  not found
    1  the operation failed (also a watched     5  not allowed
       run that failed)                         6  a check failed; something acknowledged is missing
    2  usage: an argument, a setting            7  timeout
    3  cannot reach the server, or Kafka

Errors of millstream's own tree say themselves what happened and what to do; anything else is a bug of ours, and the
only case that shows a traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Final

from millstream.errors import (
    AcknowledgedLost,
    ConfigError,
    DiskFull,
    LogUnavailable,
    MillstreamError,
    NotAllowed,
    NotFound,
    OperatorError,
)
from millstream.model.text.printable import one_line, printable
from millstream.model.text.redaction import redacted

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
NOT_ALLOWED: Final = 5
CHECK_FAILED: Final = 6
TIMEOUT: Final = 7
INTERRUPTED: Final = 130


class Unreachable(OperatorError):
    """No server answered."""


class TimedOut(OperatorError):
    """The time the caller allowed is over."""


# The first that fits counts: subclasses before their parents.
_CODES: Final[tuple[tuple[type[MillstreamError], int], ...]] = (
    (ConfigError, USAGE),
    (Unreachable, UNREACHABLE),
    (DiskFull, FAILED),
    (LogUnavailable, UNREACHABLE),
    (NotFound, NOT_FOUND),
    (NotAllowed, NOT_ALLOWED),
    (TimedOut, TIMEOUT),
    (AcknowledgedLost, CHECK_FAILED),
    (MillstreamError, FAILED),
)


def code_of(error: MillstreamError) -> int:
    """The exit code of an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def guarded(run: Callable[[], int]) -> int:
    """What ``run`` returns; an error of ours becomes one line on stderr and its exit code."""
    try:
        code = run()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (``| head``). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MillstreamError as error:
        complain(error)
        return code_of(error)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            return _bug()
        # The machine's word about a path that was named to us: no access, not a directory, a full disk.
        note(f"error: {error.filename}: {error.strerror}")
        return FAILED
    except ExceptionGroup as group:
        expected, bugs = group.split(MillstreamError)
        if bugs is not None or expected is None:
            return _bug()
        leaves = _leaves(expected)
        for leaf in leaves:
            complain(leaf)
        return code_of(leaves[0])
    except Exception:
        return _bug()


def _bug() -> int:
    """Print the traceback of the exception that is being handled: it is ours to fix."""
    sys.stderr.write(printable(redacted(traceback.format_exc())))
    return FAILED


def complain(error: MillstreamError) -> None:
    """One line on stderr."""
    note("error: " + " ".join(str(error).split("\n")))


def note(text: str) -> None:
    """One line on stderr, for the person; never data. It holds no secret, and nothing that steers a terminal."""
    print(f"millstream: {one_line(redacted(text))}", file=sys.stderr, flush=True)


def _leaves(group: ExceptionGroup[MillstreamError]) -> list[MillstreamError]:
    found: list[MillstreamError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return found
