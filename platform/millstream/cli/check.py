"""``millstream check module:app``: everything that can be wrong with an app before a server sees it.

Declaring finds most of it, when the module is imported; here come expressions, crons, and what only shows when apps
meet: ids and functions that two of them have. Every problem is named, not only the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from millstream.cli.support.exits import CHECK_FAILED, OK, note
from millstream.cli.support.loading import LoadFailed, load_app, put_working_directory_on_path
from millstream.cli.support.output import chosen, show_rows
from millstream.config import Settings
from millstream.core.trigger_problems import trigger_problems
from millstream.errors import ConfigError, FunctionError
from millstream.sdk.app import App

COLUMNS = ("app", "function", "problem")
Problem = dict[str, str]


def check(settings: Settings, targets: Sequence[str]) -> int:
    """Load and check the apps; 0, or 6 with the problems."""
    put_working_directory_on_path()
    apps: list[tuple[str, App]] = []
    problems: list[Problem] = []
    for target in targets:
        try:
            apps.append((target, load_app(target)))
        except ConfigError:
            raise  # Not a problem of the app: there is none of that name.
        except (FunctionError, LoadFailed) as error:
            problems.append(_problem(target, "", str(error)))
    problems += _problems(apps)
    if problems:
        show_rows(settings, problems, COLUMNS)
        note(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found in {', '.join(targets)}")
        return CHECK_FAILED
    functions = sum(len(app.functions) for _, app in apps)
    if chosen(settings) != "table":
        show_rows(settings, [{"app": app.id, "functions": list(app.functions)} for _, app in apps], ())
    note(f"{len(apps)} app{'s' if len(apps) != 1 else ''} with {functions} functions checked: no problems")
    return OK


def _problems(apps: Sequence[tuple[str, App]]) -> Iterator[Problem]:
    homes: dict[str, str] = {}
    slugs: dict[str, str] = {}
    for target, app in apps:
        home = homes.setdefault(app.id, target)
        if home != target:
            yield _problem(app.id, "", f"the app id {app.id!r} is used by {home} and {target}. Give each its own.")
            continue
        if not app.functions:
            yield _problem(app.id, "", "the app has no functions. Declare one with @app.function(on=…).")
        for function in app.functions.values():
            spec = function.spec
            other = slugs.setdefault(spec.slug, app.id)
            if other != app.id:
                yield _problem(app.id, spec.slug, f"the apps {other!r} and {app.id!r} both have it. Rename one.")
            yield from (
                _problem(app.id, spec.slug, text) for trigger in spec.triggers for text in trigger_problems(trigger)
            )
        try:
            app.spec()
        except FunctionError as error:
            yield _problem(app.id, "", str(error))


def _problem(app: str, function: str, text: str) -> Problem:
    return {"app": app, "function": function, "problem": text}
