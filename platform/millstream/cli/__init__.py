"""The command line: ``millstream dev``, ``events``, ``runs``, ``lanes``, ``schemas``, ``check``, ``config`` and so on.

    commands.py   every command and its arguments; a module of its own does the work, imported when it is called
    support/      what commands share: flags made from the table of settings, exit codes, output, input, serving
    lanes/        lanes and journals looked at from outside

Rules kept: data on stdout, everything else on stderr; an error is one clear line, never a traceback; nothing is
imported that the command does not need, because a shell waits for it.

Add a command: a function in ``commands.py``, a module here named after it.
"""

from __future__ import annotations

import io
import os
import sys


def main() -> int:
    """Run the command that ``sys.argv`` names; its exit code (``support/exits.py``)."""
    from millstream.cli.support.exits import guarded
    from millstream.config import refuse_unknown
    from millstream.errors import ConfigError
    from millstream.model.text.storable import is_storable

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A terminal that has no … is no reason for a traceback.

    def run() -> int:
        for number, argument in enumerate(sys.argv[1:], 1):
            if not is_storable(argument):
                raise ConfigError(
                    f"argument {number} was refused: expected text in UTF-8, got {ascii(argument)[:200]}."
                )
        refuse_unknown(os.environ)
        if sys.argv[1:] in (["version"], ["--version"]):
            from millstream.cli.processes.version import (
                print_version,  # Asked by scripts, over and over: no parser for it.
            )

            return print_version()
        from millstream.cli.commands import run_command

        return run_command()

    return guarded(run)
