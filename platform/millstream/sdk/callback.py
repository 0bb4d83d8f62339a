"""``Callback``: a URL of a run's own that takes one post from outside, as a handler has it.

    approval = await ctx.step.callback("approve", timeout="3d")
    await ctx.step.run("mail", send_mail, order, approval.url)
    answer = await approval.result()          # what was posted, or None when the time is over

Making it is one step, waiting for what is posted another, ``<id>/result``: so a run may do anything in between, and a
post that comes meanwhile is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from millstream.model.operations import CallbackFound, Operation, PostWaitFound
from millstream.sdk.payloads import decode
from millstream.sdk.unawaited import Unawaited

R = TypeVar("R")
Async = Coroutine[object, object, R]
Ask = Callable[[str, str, Callable[[str], Operation]], Async[bytes]]
"""``Driver.ask``."""
RESULT: Final = "/result"


class _Opened(msgspec.Struct, frozen=True):
    """The recorded result of the step that has made a callback."""

    id: str
    url: str


_decode: Final = msgspec.json.Decoder(_Opened).decode


class Callback:
    """A callback, as a coroutine handler has it.

    ``url``  where to post: a secret that is good for one post. ``id``: names it in logs, and lets nobody post.
    """

    __slots__ = ("_ask", "_step", "_unawaited", "id", "url")

    def __init__(self, id: str, url: str, step: str, ask: Ask, unawaited: Unawaited) -> None:
        self.id = id
        self.url = url
        self._step = step
        self._ask = ask
        self._unawaited = unawaited

    def __repr__(self) -> str:
        return f"Callback({self.id!r})"  # Without the URL: it would stand in a log.

    def result(self) -> Async[Any]:
        """Wait for the post: its body, decoded where it is JSON, else as text; None when the time is over.

        The time is the callback's, from when it was made. Asked again, the answer is the same.
        """
        self._unawaited.add(step := self._posted())
        return step

    async def _posted(self) -> Any:
        id = f"{self._step}{RESULT}"
        return decode(await self._ask(id, "callback_post", lambda step: PostWaitFound(step, id, self._step)))


class SyncCallback:
    """A callback, as a plain function has it."""

    __slots__ = ("_callback", "_wait", "id", "url")

    def __init__(self, callback: Callback, wait: Callable[[Async[Any]], Any]) -> None:
        self.id = callback.id
        self.url = callback.url
        self._callback = callback
        self._wait = wait

    def __repr__(self) -> str:
        return repr(self._callback)

    def result(self) -> Any:
        """As ``Callback.result``."""
        return self._wait(self._callback.result())


async def make(id: str, timeout_ms: int, ask: Ask, unawaited: Unawaited) -> Callback:
    """Ask for the step that makes a callback."""
    step = id

    def found(unique: str) -> CallbackFound:
        nonlocal step
        step = unique
        return CallbackFound(unique, id, timeout_ms)

    opened = _decode(await ask(id, "callback", found))
    return Callback(opened.id, opened.url, step, ask, unawaited)
