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

import millstream
from millstream.cli.support.problems import collisions
from millstream.errors import ConfigError, FunctionError, UserCodeError
from millstream.sdk.app import App

NAMES_SHOWN_MAX: Final = 10
_OURS: Final = os.path.join(os.path.dirname(os.path.abspath(millstream.__file__)), "")
_INSTALLED: Final = tuple(
    os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class LoadFailed(UserCodeError):
    """A user's module raised while it was imported. The message says what and where."""


def load_apps(targets: Sequence[str]) -> list[App]:
    """The apps, in order.

    Raises ConfigError for what cannot be found, LoadFailed for broken code, FunctionError for functions that cannot be
    and for ids that two apps have.
    """
    put_working_directory_on_path()
    apps: list[App] = []
    named: list[str] = []
    for target in targets:
        app = load_app(target)
        if not any(app is other for other in apps):
            apps.append(app)
            named.append(target)
    for found in collisions(list(zip(named, apps, strict=True))):
        raise FunctionError(f"refused: {found['problem']}")
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
    except FunctionError as error:
        raise FunctionError(f"{_where(error)}: {error}") from error
    except SyntaxError as error:
        place = f"{_shown(error.filename or 'unknown place')}:{error.lineno}"
        raise LoadFailed(f"{target} could not be imported: {place}: {error.msg}.") from error
    except SystemExit as error:
        raise LoadFailed(
            f"{target} could not be imported: SystemExit: {_where(error)} ends the process with {error.code!r}. "
            'Put what a script does below: if __name__ == "__main__":'
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise LoadFailed(
            f"{target} could not be imported: {_where(error)}: {type(error).__name__}: {str(error) or 'no message'}"
        ) from error
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names and os.path.exists(os.path.join(os.getcwd(), top + ".py")):
        raise ConfigError(f"{target!r} names a module of Python itself, not your {top}.py. Rename the file.")
    return module


def _where(error: BaseException) -> str:
    """The innermost line of the user's own code; where there is none, of any but the import system's."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if not _is_installed(frame.filename)] or frames
    return f"{_shown(own[-1].filename)}:{own[-1].lineno}" if own else "unknown place"


def _is_installed(file: str) -> bool:
    """Whether it is Python's, an installed package's or ours."""
    return file.startswith(("<", _OURS, *_INSTALLED))


def _shown(file: str) -> str:
    """A file as seen from the working directory, where it is below it."""
    here = os.path.join(os.getcwd(), "")
    return file.removeprefix(here)


def _listed(name: str, found: dict[str, App]) -> str:
    if not found:
        return "no App at all"
    return "the apps " + ", ".join(f"{name}:{key}" for key in sorted(found)[:NAMES_SHOWN_MAX])
