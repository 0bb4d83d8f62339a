"""The contact form: does a visitor get what the example promises, and nothing twice?"""

from __future__ import annotations

from examples import contact_form, mail, records
from millstream import Event
from millstream.testing import TestApp

WRITTEN = Event(
    "contact/message.received", {"name": "Ada", "email": "ada@example.com", "text": "Does it count?"}, id="ada-1"
)


def mails() -> list[tuple[str, str]]:
    return [(sent["to"], sent["subject"]) for sent in records.found("mail")]


async def test_team_and_visitor_get_a_mail_at_once_and_the_visitor_another_after_a_day() -> None:
    async with TestApp(contact_form.app) as t:
        run = await t.send(WRITTEN)
        assert sorted(mails()) == [("ada@example.com", "Thank you"), ("team@example.com", "Message 1 from Ada")]
        assert run.status == "Running"
        await t.advance("23h")
        assert len(mails()) == 2
        await t.advance("1h")
        assert mails()[2:] == [("ada@example.com", "All answered?")]
        assert run.result == {"message": 1, "mails": 3}


async def test_a_visitor_who_replies_within_the_day_is_not_asked_again() -> None:
    async with TestApp(contact_form.app) as t:
        run = await t.send(WRITTEN)
        await t.advance("23h")
        await t.send(Event("contact/reply.received", {"email": "bob@example.com"}))
        assert run.status == "Running"
        await t.send(Event("contact/reply.received", {"email": "ada@example.com", "text": "It counts!"}))
        assert run.result == {"message": 1, "mails": 2}
        await t.advance("2d")
    assert len(mails()) == 2


async def test_a_message_sent_twice_is_stored_and_answered_once() -> None:
    async with TestApp(contact_form.app) as t:
        await t.send(WRITTEN)
        await t.send(WRITTEN)
        await t.advance("2d")
    assert len(records.found("message")) == 1
    assert len(mails()) == 3


async def test_a_worker_that_dies_behind_a_recorded_mail_does_not_send_it_again() -> None:
    async with TestApp(contact_form.app) as t:
        t.crash_after("mail-visitor")
        run = await t.send(WRITTEN)
        await t.advance("2d")
        assert run.result == {"message": 1, "mails": 3}
    assert len(mails()) == 3


async def test_a_mail_whose_worker_dies_before_the_record_of_it_is_sent_once() -> None:
    async with TestApp(contact_form.app) as t:

        async def sent_and_killed(*args: str) -> dict[str, str]:
            answer = mail.send(*args)
            if len(thanks.calls) == 1:
                await t.crash()
            return answer

        thanks = t.stub("mail-visitor", sent_and_killed)
        await t.send(WRITTEN)
        assert len(thanks.calls) == 2
    assert sorted(mails()) == [("ada@example.com", "Thank you"), ("team@example.com", "Message 1 from Ada")]


async def test_a_message_without_a_mail_address_fails_naming_the_field() -> None:
    async with TestApp(contact_form.app) as t:
        run = await t.send(Event("contact/message.received", {"name": "Ada", "text": "Hello"}))
    assert run.status == "Failed"
    assert "email" in run.error.message
    assert mails() == []
