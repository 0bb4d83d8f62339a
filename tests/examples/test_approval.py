"""The approval by mail: is a decision taken once, from the page behind the link, and told?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from examples import approval, records
from millstream import Client, Event
from millstream.dev import DevServer, DevSettings
from millstream.testing import TestApp

EXPENSE = Event(
    "expense/submitted", {"number": 7, "by": "ada@example.com", "manager": "max@example.com", "amount": 120.5}
)
MAIL_S_MAX = 20.0


def mails() -> list[tuple[str, str]]:
    return [(sent["to"], sent["subject"]) for sent in records.found("mail")]


@pytest.mark.parametrize("outcome", ["approved", "refused"])
async def test_the_manager_is_asked_and_whoever_asked_is_told(outcome: str) -> None:
    async with TestApp(approval.app) as t:
        run = await t.send(EXPENSE)
        assert mails() == [("max@example.com", "Expense 7")]
        await t.callback("decision", {"decision": outcome})
        assert run.result == outcome
    assert mails()[1:] == [("ada@example.com", f"Expense 7 is {outcome}")]


async def test_an_expense_that_nobody_decides_in_a_week_is_undecided() -> None:
    async with TestApp(approval.app) as t:
        run = await t.send(EXPENSE)
        await t.crash()
        await t.advance("7d")
        assert run.result == "undecided"
    assert mails()[1:] == [("ada@example.com", "Expense 7 is undecided")]


async def test_the_button_behind_the_link_decides_once_and_opening_it_decides_nothing(tmp_path: Path) -> None:
    server = DevServer([approval.app], DevSettings(data=tmp_path / "data", port=0))
    await server.start()
    try:
        assert server.served is not None
        async with (
            Client(server.served.url) as client,
            TestClient(TestServer(approval.site(server.served.url))) as manager,
        ):
            await client.send(EXPENSE)
            link = (await mailed(1))["text"].rpartition(approval.SITE)[2]
            for _ in range(2):
                assert "Approve" in await (await manager.get(link)).text()
            assert (await manager.post(link, data={"decision": "perhaps"})).status == 400
            answers = await asyncio.gather(*(manager.post(link, data={"decision": "approved"}) for _ in range(2)))
            assert sorted(answer.status for answer in answers) == [200, 410]
            assert (await manager.post(link + "x", data={"decision": "approved"})).status == 404
            assert (await mailed(2))["subject"] == "Expense 7 is approved"
    finally:
        await server.stop()


async def mailed(number: int) -> dict[str, str]:
    """The mail with this number, from 1, once it is sent."""
    async with asyncio.timeout(MAIL_S_MAX):
        while True:
            if len(sent := records.found("mail")) >= number:
                return dict(sent[number - 1])
            await asyncio.sleep(0.01)
