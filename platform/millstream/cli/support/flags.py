"""Flags made from the table of settings: a command names the settings it takes and gets them resolved.

    @settings("url", "event_key", "output")
    def get(settings: Settings, *, run: str) -> int: ...

The flags are texts for the parser; ``config.py`` reads flag and variable alike, so that both accept the same and
complain the same way.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from millstream.cli.support.exits import guarded
from millstream.config import BY_NAME, Settings
from millstream.model.settings.setting import SWITCH, TEXTS, Setting

SHORT: Final = {"output": "-o", "sdk_urls": "-u"}


def settings(*names: str) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Make a command of a function: flags for these settings are added, their values are its first argument.

    The function's result is the exit code.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
        flags = [_parameter(BY_NAME[name]) for name in names]

        def command(**arguments: Any) -> None:
            def run() -> int:
                given = {name: arguments.pop(name) for name in names}
                return function(Settings(given, os.environ), **arguments)

            sys.exit(guarded(run))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        # The parser asks for both; neither can be written down for flags that come from a table.
        command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *flags)}
        return command

    return decorate


def _parameter(setting: Setting) -> inspect.Parameter:
    default = f"default: {setting.default}; " if setting.default and setting.kind != SWITCH else ""
    kind: Any = bool | None if setting.kind == SWITCH else list[str] | None if setting.kind == TEXTS else str | None
    names = [setting.flag, SHORT[setting.name]] if setting.name in SHORT else [setting.flag]
    choices = list(setting.choices)
    option = typer.Option(
        *names,
        metavar=setting.metavar or None,
        help=f"{setting.doc} [{default}{setting.variable}]",
        show_default=False,
        autocompletion=(lambda: choices) if choices else None,
    )
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )
