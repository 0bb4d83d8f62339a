"""What is wrong with apps, as far as that shows without running them: ``check`` reports it, servers say it at a start.

    refused     ids and functions that two apps have: a run would get the code of either (``collisions``)
    a problem   expressions and crons that cannot be, patterns that match nothing: the function would never start
                keys of flow control that cannot be: the limit would not be the one that is meant
    a warning   a field that no event has, an option without effect: the function may still start, and means something
                else

``check`` names all of it, and fails on the first two. A server refuses the first and says the others: its other
functions are none the worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from millstream.cli.support.exits import note
from millstream.core.declared import function_problems, function_warnings
from millstream.errors import FunctionError
from millstream.sdk.app import App

Problem = dict[str, str]
PROBLEM: Final = "problem"
WARNING: Final = "warning"


def problem(app: str, function: str, text: str, severity: str = PROBLEM) -> Problem:
    """One problem, or warning, as a row."""
    return {"app": app, "function": function, "severity": severity, "problem": text}


def collisions(apps: Sequence[tuple[str, App]]) -> Iterator[Problem]:
    """Ids of apps, and of functions, that two of them have; each app with the target that names it."""
    homes: dict[str, str] = {}
    slugs: dict[str, str] = {}
    for target, app in apps:
        home = homes.setdefault(app.id, target)
        if home != target:
            yield problem(app.id, "", f"the app id {app.id!r} is used by {home} and {target}. Give each its own.")
            continue
        for slug in app.functions:
            other = slugs.setdefault(slug, app.id)
            if other != app.id:
                text = f"the apps {other!r} and {app.id!r} both have the function {slug!r}. Rename one."
                yield problem(app.id, slug, text)


def problems_of(app: App) -> Iterator[Problem]:
    """Everything else that is or may be wrong with one app."""
    if not app.functions:
        yield problem(app.id, "", "the app has no functions. Declare one with @app.function(on=…).")
    for function in app.functions.values():
        slug = function.spec.slug
        yield from (problem(app.id, slug, text) for text in function_problems(function.spec))
        yield from (problem(app.id, slug, text, WARNING) for text in function_warnings(function.spec))
    try:
        app.spec()
    except FunctionError as error:
        yield problem(app.id, "", str(error))


def say_problems(apps: Sequence[App]) -> None:
    """A line for each problem and warning: what a server says at its start."""
    for app in apps:
        for found in problems_of(app):
            note(f"{found['severity']}: {found['function'] or found['app']}: {found['problem']}")
