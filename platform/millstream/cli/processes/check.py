"""``millstream check module:app``: everything that can be wrong with an app before a server sees it.

Declaring finds most of it, when the module is imported; here come expressions, crons, and what only shows when apps
meet: ids and functions that two of them have. Every problem is named, not only the first.
"""

from __future__ import annotations

from collections.abc import Sequence

from millstream.cli.support.exits import CHECK_FAILED, FAILED, OK, complain, note
from millstream.cli.support.loading import LoadFailed, load_app, put_working_directory_on_path
from millstream.cli.support.output import chosen, counted, show_rows
from millstream.cli.support.problems import PROBLEM, Problem, collisions, problem, problems_of
from millstream.config import Settings
from millstream.errors import ConfigError, FunctionError
from millstream.sdk.app import App

COLUMNS = ("app", "function", "severity", "problem")


def check(settings: Settings, targets: Sequence[str]) -> int:
    """Load and check the apps; 0, also with warnings, 6 with problems, or 1 where one cannot be loaded and checked."""
    put_working_directory_on_path()
    apps: list[tuple[str, App]] = []
    problems: list[Problem] = []
    code = CHECK_FAILED
    for target in targets:
        try:
            apps.append((target, load_app(target)))
        except ConfigError:
            raise  # Not a problem of the app: there is none of that name.
        except LoadFailed as error:
            if chosen(settings) != "table":  # Where people read both it would be said twice.
                complain(error)
            problems.append(problem(target, "", str(error)))
            code = FAILED
        except FunctionError as error:
            problems.append(problem(target, "", str(error)))
    distinct = {app.id: app for _, app in reversed(apps)}  # Of two with one id, the first.
    problems += [one for app in reversed(distinct.values()) for one in problems_of(app)]
    problems += collisions(apps)
    count = sum(one["severity"] == PROBLEM for one in problems)
    warnings = counted(len(problems) - count, "warning")
    if problems:
        show_rows(settings, problems, COLUMNS)
    if count:
        said = f"{counted(count, 'problem')} and {warnings}" if count < len(problems) else counted(count, "problem")
        note(f"{said} found in {', '.join(targets)}")
        return code
    functions = sum(len(app.functions) for _, app in apps)
    if chosen(settings) != "table" and not problems:
        show_rows(settings, [{"app": app.id, "functions": list(app.functions)} for _, app in apps], ())
    found = f"no problems, {warnings}" if problems else "no problems"
    note(f"{counted(len(apps), 'app')} with {counted(functions, 'function')} checked: {found}")
    return OK
