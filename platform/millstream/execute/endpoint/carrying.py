"""A dispatch of an app over HTTP, carried out: the call is written, made, and its reply read.

    Work ──carry_out──> Answered   what the app answers, whatever that is
                    ──> NotSent    certainly nothing was executed
                    ──> Broken, CarrierDied   it may have been

All processor time of a call is here, and nothing that lasts from one call to the next but connections. So it can be
carried out in this process (``CarrierHere``) or in another (``processes/calls.py``). Who waits for a turn, which app is
down and what is parked, ``EndpointExecutor`` knows, in the lane's process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from millstream.errors import BadRequest
from millstream.execute.endpoint import gateway
from millstream.execute.endpoint.calls import Target, call_of
from millstream.execute.endpoint.endpoints import Endpoint, Endpoints
from millstream.execute.endpoint.http import TooSlow, Unsendable
from millstream.execute.endpoint.replies import Answered, Reply, no_http, read_reply, too_large, too_slow, unsendable
from millstream.execute.endpoint.response import NoHttpServer, NotHttp, TooLarge
from millstream.execute.port import RunView
from millstream.model.effects import Execute


class CarrierDied(Exception):
    """The process that made the call has died."""


class Work(msgspec.Struct, frozen=True):
    """A dispatch, and all that its call needs.

    ``app``, ``url``           of the app: its id, and where it serves.
    ``retries``                of the function.
    ``version``, ``plans``     see ``calls.Target``.
    ``started_ms``, ``total_s``  when it begins, and how long it may take.
    """

    view: RunView
    effect: Execute
    app: str
    url: str
    retries: int
    version: int
    plans: bool
    request_id: str
    started_ms: int
    total_s: float


class Carrier(Protocol):
    """Carries out work for an app."""

    async def carry_out(self, work: Work, endpoint: Endpoint) -> Answered:
        """What the app, or what a step fetches, answers. Raises NotSent, Broken, CarrierDied."""
        ...


class CarrierHere:
    """Makes the calls in this process, over the connections of ``endpoints``."""

    def __init__(self, endpoints: Endpoints, now_ms: Callable[[], int]) -> None:
        self._endpoints = endpoints
        self._now_ms = now_ms

    async def carry_out(self, work: Work, endpoint: Endpoint) -> Answered:
        """See ``Carrier``."""
        effect, now_ms = work.effect, self._now_ms
        row = next((row for row in work.view.steps if row.step == effect.step), None) if effect.step else None
        if row is not None and row.kind in gateway.KINDS:
            http = self._endpoints.http
            return Answered((await gateway.make(http, row, work.started_ms, now_ms, work.total_s),))
        target = Target(url=work.url, retries=work.retries, version=work.version, plans=work.plans)
        call = call_of(work.view, effect, target, work.request_id)
        try:
            answer = await endpoint.post(call, work.started_ms // 1_000, work.total_s)
        except TooLarge:
            return too_large()
        except TooSlow:
            return too_slow(work.total_s)
        except NotHttp as error:
            return no_http(work.url, str(error), nothing_ran=isinstance(error, NoHttpServer))
        except (BadRequest, Unsendable) as error:
            return unsendable(error)
        keys, at_ms = self._endpoints.settings.keys, now_ms()
        verify = (lambda header, body: keys.verify(header, body, at_ms // 1_000)) if keys else None
        reply = Reply(answer.status, answer.headers, answer.body, work.started_ms, at_ms)
        return read_reply(reply, work.url, effect.function, verify)
