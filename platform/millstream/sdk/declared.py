"""The ids of declared functions, by their handlers: ``@app.function`` gives the handler back as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from millstream.errors import FunctionError
from millstream.model.text.storable import shown, type_name

_SLUGS: Final[WeakKeyDictionary[Callable[..., object], str]] = WeakKeyDictionary()


def note_declared(handler: Callable[..., object], slug: str) -> None:
    """The handler is this function's. Of one that several functions share, the last counts."""
    try:
        _SLUGS[handler] = slug
    except TypeError:  # It can be in no table: such a function is invoked by its id.
        return


def declared_slug(what: str, handler: Callable[..., object]) -> str:
    """The id of the function whose handler this is. Raises FunctionError, naming ``what`` asks, where it is none."""
    try:
        return _SLUGS[handler]
    except (KeyError, TypeError):
        raise FunctionError(
            f"{what} refused: expected a function that is declared with @app.function, got {type_name(handler)} "
            f"{shown(handler)}. Declare it, or name one by its id: 'app-function'; in a run with invoke_by_id."
        ) from None
