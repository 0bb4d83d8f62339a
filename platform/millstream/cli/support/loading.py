"""``module:app``: find the Apps that a command names.

The directory the command was called in counts as a place of modules, *behind* the standard library and before
installed packages: a user's own folder named ``platform`` or ``calendar`` must not take the place of Python's.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from millstream.errors import ConfigError, FunctionError, MillstreamError, UserCodeError
from millstream.sdk.app import App

NAMES_SHOWN_MAX: Final = 10


class LoadFailed(UserCodeError):
    """A user's module raised while it was imported. The message says what and where."""


def load_apps(targets: Sequence[str]) -> list[App]:
    """The apps, in order. Raises ConfigError for what cannot be found, LoadFailed or FunctionError for broken code."""
    put_working_directory_on_path()
    apps: list[App] = []
    for target in targets:
        app = load_app(target)
        if not any(app is other for other in apps):
            apps.append(app)
    ids = [app.id for app in apps]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise FunctionError(f"two apps have the same id {twice[0]!r}, from {', '.join(targets)}. Give each its own.")
    return apps


def load_app(target: str) -> App:
    """The app that ``module:name`` names; ``module`` alone will do where it has only one."""
    name, colon, attribute = target.partition(":")
    if not name or (colon and not attribute) or name.endswith(".py") or "/" in name:
        raise ConfigError(
            f"{target!r} names no app: expected module:name, for example examples.blog:app. "
            "Write dots between folders, and no .py."
        )
    module = _imported(name, target)
    found = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    if not attribute:
        if len({id(app) for app in found.values()}) == 1:
            return next(iter(found.values()))
        raise ConfigError(f"{target!r} names no app: module {name} has {_listed(name, found)}. Say which one.")
    try:
        app = getattr(module, attribute)
    except AttributeError:
        raise ConfigError(f"module {name} has no {attribute!r}: it has {_listed(name, found)}.") from None
    if not isinstance(app, App):
        raise ConfigError(
            f"{target} is no App: expected a millstream.App, got {type(app).__name__}. The module has "
            f"{_listed(name, found)}."
        )
    return app


def put_working_directory_on_path() -> None:
    """Let modules of the working directory be found, after Python's own and before installed ones."""
    here = os.getcwd()
    kept = [entry for entry in sys.path if entry not in ("", here)]
    own = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    last = max((at for at, entry in enumerate(kept) if os.path.realpath(entry) in own), default=-1)
    while last + 1 < len(kept) and kept[last + 1].endswith("lib-dynload"):
        last += 1
    kept.insert(last + 1, here)
    sys.path[:] = kept


def _imported(name: str, target: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(
                f"no module {missing!r} for {target!r}: looked in {os.getcwd()} and the installed packages. "
                "Call the command in the folder above it, or install it."
            ) from None
        raise LoadFailed(
            f"{target} could not be imported: {_where(error)}: no module {missing!r}. Install it."
        ) from error
    except MillstreamError:
        raise  # FunctionError says itself which function, and what is wrong with it.
    except SyntaxError as error:
        raise LoadFailed(f"{target} could not be imported: {error.filename}:{error.lineno}: {error.msg}.") from error
    except Exception as error:
        raise LoadFailed(
            f"{target} could not be imported: {_where(error)}: {type(error).__name__}: {str(error) or 'no message'}"
        ) from error
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names and os.path.exists(os.path.join(os.getcwd(), top + ".py")):
        raise ConfigError(f"{target!r} names a module of Python itself, not your {top}.py. Rename the file.")
    return module


def _where(error: BaseException) -> str:
    """The innermost place outside the import system."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = frames[-1] if frames else None
    return f"{last.filename}:{last.lineno}" if last is not None else "unknown place"


def _listed(name: str, found: dict[str, App]) -> str:
    if not found:
        return "no App at all"
    return "the apps " + ", ".join(f"{name}:{key}" for key in sorted(found)[:NAMES_SHOWN_MAX])
