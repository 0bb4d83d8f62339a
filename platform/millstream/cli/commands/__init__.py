"""Every command with its arguments. What a command does is in the folder or module of the same name beside this folder,
imported only when it is called.

    groups.py      the command line and its groups of commands
    processes.py   what runs: dev, serve, worker, history, api; and what is asked before: check, doctor, init, config
    apps.py        apps
    work.py        events, runs, signals, functions, scans, dead letters
    operating.py   topics, lanes, schemas

Add a command: a function in one of them. The settings it takes are named in ``@takes``, other options are its
parameters.
"""

from __future__ import annotations

from millstream.cli.commands import apps, operating, processes, work
from millstream.cli.commands.groups import app
from millstream.cli.support.usage import parsed

__all__ = ["app", "apps", "operating", "processes", "run_command", "work"]


def run_command() -> int:
    """Parse the arguments and run; ends the process with the command's exit code, 2 for wrong usage."""
    return parsed(app)
