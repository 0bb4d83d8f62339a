"""``ctx.step.retrying(Retry(…))``: the step tools that run code, each attempt judged by that Retry.

Only ``run`` calls code of the user's, so only ``run`` is here: what the engine carries out itself (``sleep``,
``publish``, ``invoke`` …) has no attempts. As with ``StepTools`` there is one implementation and a face for threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from millstream.errors import FunctionError
from millstream.model.text.storable import shown, type_name
from millstream.sdk import checks
from millstream.sdk.retry import Retry
from millstream.sdk.unawaited import Unawaited

P = ParamSpec("P")
R = TypeVar("R")
Async = Coroutine[object, object, R]


class Retrying:
    """``run`` of a coroutine handler, by a Retry."""

    __slots__ = ("_retry", "_run", "_unawaited")

    def __init__(self, run: Callable[..., Async[object]], unawaited: Unawaited, retry: Retry) -> None:
        """``run`` is the driver's."""
        self._run = run
        self._unawaited = unawaited
        self._retry = checked(retry)

    @overload
    def run(self, id: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Async[R]: ...
    @overload
    def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Async[R]: ...
    def run(self, id: str, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Async[object]:
        """As ``StepTools.run``, tried again as the Retry says."""
        id = checks.step_id(id)
        checks.step_call(id, fn)
        step = self._run(id, fn, args, kwargs, self._retry)
        self._unawaited.add(step)
        return step


class SyncRetrying:
    """``run`` of a plain handler, by a Retry: it blocks the handler's own thread."""

    __slots__ = ("_tools", "_wait")

    def __init__(self, wait: Callable[[Any], Any], tools: Retrying) -> None:
        """``wait`` is the driver's."""
        self._wait = wait
        self._tools = tools

    @overload
    def run(self, id: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, id: str, fn: Callable[..., object], /, *args: object, **kwargs: object) -> object:
        """As ``Retrying.run``."""
        return self._wait(self._tools.run(id, fn, *args, **kwargs))


def checked(retry: object) -> Retry:
    """What ``retrying`` takes. Raises FunctionError on anything else."""
    if type(retry) is not Retry:
        raise FunctionError(
            f"step.retrying refused: expected a Retry, got {type_name(retry)} {shown(retry)}. "
            "Write ctx.step.retrying(Retry(attempts=8, backoff=Exponential('1s'), on=ConnectionError)).run(id, fn)."
        )
    return retry
