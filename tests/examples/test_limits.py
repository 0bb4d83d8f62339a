"""Four limits: is each kept, on the virtual clock, and nothing lost?"""

from __future__ import annotations

import threading

import pytest

from examples import limits, records
from millstream import Event
from millstream.testing import TestApp


def subjects() -> list[str]:
    return [sent["subject"] for sent in records.found("mail")]


async def test_five_mails_go_at_once_then_one_every_two_seconds_and_an_urgent_one_before_the_others() -> None:
    async with TestApp(limits.app) as t:
        for n in range(8):
            await t.send(Event("mail/asked", {"to": "ada@example.com", "subject": f"news {n}"}))
        await t.send(Event("mail/asked", {"to": "ada@example.com", "subject": "your link", "urgent": True}))
        assert subjects() == [f"news {n}" for n in range(5)]
        await t.advance("2s")
        assert subjects()[5:] == ["your link"]
        await t.crash()
        await t.advance("6s")
        assert subjects()[6:] == ["news 5", "news 6", "news 7"]


async def test_a_customer_has_two_exports_at_once_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    lock, both = threading.Lock(), threading.Barrier(2)

    def pack(customer: str, project: str) -> None:
        with lock:
            now[customer] = now.get(customer, 0) + 1
            most[customer] = max(most.get(customer, 0), now[customer])
        if customer == "ada":
            both.wait(10)  # Two that are packed at once: one after another they never would pass.
        with lock:
            now[customer] -= 1

    monkeypatch.setattr(limits, "pack", pack)
    async with TestApp(limits.app) as t:
        wanted = [("ada", f"p{n}") for n in range(6)] + [("max", "site")]
        sent = await t.send([Event("export/asked", {"customer": who, "project": what}) for who, what in wanted])
        assert [run.status for run in sent.runs] == ["Completed"] * 7
    assert most == {"ada": 2, "max": 1}


async def test_views_are_written_by_the_hundred_or_after_ten_seconds() -> None:
    async with TestApp(limits.app) as t:
        for n in range(120):
            await t.send(Event("page/viewed", {"site": "home", "page": f"/{n}"}))
        assert [len(views["pages"]) for views in records.found("views")] == [100]
        await t.crash()
        await t.advance("10s")
        assert [page for views in records.found("views") for page in views["pages"]] == [f"/{n}" for n in range(120)]


async def test_a_document_is_indexed_once_when_its_author_stops_and_once_a_minute_before() -> None:
    async with TestApp(limits.app) as t:
        for version in range(4):
            await t.send(Event("document/changed", {"document": "A7", "version": version}))
            await t.advance("4s")
        assert records.found("indexed") == []
        await t.advance("1s")
        assert records.found("indexed", "A7") == [{"version": 3}]
        for version in range(4, 20):
            await t.send(Event("document/changed", {"document": "A7", "version": version}))
            await t.advance("4s")
        assert records.found("indexed", "A7") == [{"version": 18}]
