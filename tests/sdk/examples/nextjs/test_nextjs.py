"""What the site of examples/nextjs promises. Visitors come in a real Chromium, other servers over HTTP."""

from __future__ import annotations

import statistics
from typing import Any, Final

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import PATIENCE_S
from tests.sdk.examples.nextjs.site import Feeds, Site

CHANGING: Final = (NoSuchElementException, StaleElementReferenceException)
"""What a look at a page raises while it is replaced by another."""
TEAM: Final = "team@example.com"
ANSWER_MS_MAX: Final = 100
ANSWERS: Final = 5
TRIES_MAX: Final = 40
ANSWER_TIMES: Final = """
    return performance.getEntriesByType("resource")
        .filter((entry) => entry.initiatorType === "fetch" && new URL(entry.name).pathname === "/contact")
        .filter((entry) => new URL(entry.name).search === "")
        .map((entry) => entry.duration)
"""
"""How long each answer of the form took in this page, in ms: what code asks at its address, with no query."""


def test_the_form_is_answered_at_once_and_two_mails_go_out_behind_it(site: Site, browser: Chrome) -> None:
    site.mailbox.open.clear()
    browser.get(f"{site.url}/contact")
    write(browser, "ada@example.com")
    sees(browser, "[role=status]", "Thank you, we have your message.")
    assert site.mailbox.offered.acquire(timeout=PATIENCE_S)
    assert site.mailbox.offered.acquire(timeout=PATIENCE_S)
    assert site.mailbox.to("ada@example.com") == []  # Answered, and neither mail is through.
    site.mailbox.open.set()
    (run,) = site.ended("blog/message.received", email="ada@example.com")
    assert (run["status"], steps(run)) == ("Completed", {"mail-team": 1, "mail-visitor": 1}), run
    sent = [mail["Message-ID"] for mail in site.mailbox.mails]
    assert [sent.count(mail) for mail in run["output"]["mails"]] == [1, 1]
    assert len(site.mailbox.to("ada@example.com")) == 1


def test_the_form_is_answered_within_100_ms(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/contact")
    times_ms: list[float] = []
    for at in range(TRIES_MAX):  # Where the machine has other work, later ones may have it for themselves.
        write(browser, visitor := f"visitor-{at}@example.com")
        until_emptied(browser)
        site.ended("blog/message.received", email=visitor)  # One visitor at a time.
        times_ms = browser.execute_script(ANSWER_TIMES)
        if len(times_ms) >= ANSWERS and statistics.median(times_ms[-ANSWERS:]) < ANSWER_MS_MAX:
            break
    print(f"answers of the form took {[round(time_ms) for time_ms in times_ms]} ms")
    assert len(times_ms) >= ANSWERS
    assert statistics.median(times_ms[-ANSWERS:]) < ANSWER_MS_MAX, times_ms


def test_a_page_is_kept_until_the_hourly_function_has_new_figures(site: Site, browser: Chrome) -> None:
    configs = {one["id"]: one["config"] for one in site.server.get("/v1/apps/blog/functions")[1]}
    assert {"cron": "0 * * * *"} in configs["blog-refresh-downloads"]["triggers"]
    for total in (1_312, 1_313):
        site.feeds.json["/downloads"] = {"total": total}
        assert site.invoke("refresh-downloads") == {"total": total}
        reloads_until_it_sees(site, browser, "/downloads", f"{total} so far")
    site.until("the page as it is kept", lambda: site.header("/downloads", "x-nextjs-cache") == "HIT")


def test_the_monitor_alerts_of_each_advisory_once_over_runs_and_a_restart(site: Site) -> None:
    advisories = site.feeds.json["/advisories"]
    advisories += [{"id": "ADV-1", "title": "Old keys"}, {"id": "ADV/2", "title": "A path"}]
    site.invoke("watch-advisories")
    site.invoke("watch-advisories")
    site.restart()
    advisories.append({"id": "ADV-3", "title": "A third"})
    site.invoke("watch-advisories")
    site.invoke("watch-advisories")
    alerts = [mail["Subject"] for mail in site.mailbox.to(TEAM) if mail["Subject"].startswith("Advisory ")]
    assert alerts == ["Advisory ADV-1", "Advisory ADV/2", "Advisory ADV-3"]


def test_a_delivery_of_the_cms_is_stored_and_becomes_a_post_once(site: Site, browser: Chrome) -> None:
    assert site.deliver(post("d-0", "forged"), secret="another") == 401
    assert site.deliver({"id": "d-0"}) == 422
    delivery = post("d-1", "hello")
    assert [site.deliver(delivery), site.deliver(delivery)] == [202, 202]
    assert site.deliver(post("d-2", "later")) == 202
    site.ended("cms/post.delivered", id="d-2")  # What was accepted before it has begun, if it ever does.
    ids = [event["id"] for event in site.events("cms/post.delivered")]
    assert [ids.count(id) for id in ("d-0", "d-1", "d-2")] == [0, 2, 1]
    titles = [post["title"] for post in site.outputs("publish-post")]
    assert [titles.count(title) for title in ("Post forged", "Post hello", "Post later")] == [0, 1, 1]
    browser.get(site.url)
    browser.find_element(By.LINK_TEXT, "Post hello").click()
    sees(browser, "article p", "Some text.")


def test_the_looks_at_a_post_are_taken_side_by_side_and_joined(site: Site) -> None:
    meeting = [f"{site.feeds.url}/meet/{at}" for at in range(Feeds.PARTIES)]  # None answers before all are asked.
    dead = f"{site.feeds.url}/nothing"
    assert site.deliver(post("d-3", "links", links=[*meeting, dead], text="word " * 201)) == 202
    (run,) = site.ended("cms/post.delivered", id="d-3")
    assert run["output"] == {"title": "Post links", "text": "word " * 201, "minutes": 2, "dead": [dead]}
    expected = {"measure": 1, "publish": 1, f"check {dead}": 1} | {f"check {link}": 1 for link in meeting}
    assert steps(run) == expected


def test_views_make_milestones_and_these_make_the_list_of_trending_posts(site: Site, browser: Chrome) -> None:
    assert site.deliver(post("d-4", "liked")) == 202
    site.ended("cms/post.delivered", id="d-4")
    browser.get(f"{site.url}/posts/liked")
    site.until("a view by the browser", lambda: {"slug": "liked"} in site.events("blog/post.viewed"))
    views(site, "liked", 9)
    reloads_until_it_sees(site, browser, "/trending", "Post liked, 10 views")
    views(site, "liked", 90)
    reloads_until_it_sees(site, browser, "/trending", "Post liked, 100 views")
    reached = [one["views"] for one in site.events("blog/milestone.reached") if one["slug"] == "liked"]
    assert sorted(reached) == [10, 100]
    assert site.ask("POST", "/api/posts/nothing/views")[0] == 404


def test_a_visitor_who_confirms_becomes_a_member_by_three_functions(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/join")
    browser.find_element(By.CSS_SELECTOR, "[name=email]").send_keys("grace@example.com")
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    sees(browser, "[role=status]", "Please look into your mailbox.")
    (asked,) = site.until("a mail that asks", lambda: site.mailbox.to("grace@example.com"))
    browser.get(asked.get_content().split()[-1])
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    sees(browser, "[role=status]", "Thank you, you are a member.")
    (run,) = site.ended("blog/signup.asked", email="grace@example.com")
    assert run["output"] == {"state": "confirmed"}

    def all_three() -> list[dict[str, Any]]:
        runs = site.ended("blog/member.joined", email="grace@example.com")
        return runs if len(runs) == 3 else []

    runs = site.until("three runs", all_three)
    assert {(run["function_id"], run["status"]) for run in runs} == {
        ("blog-welcome", "Completed"),
        ("blog-create-profile", "Completed"),
        ("blog-subscribe-to-newsletter", "Completed"),
    }
    assert [mail["Subject"] for mail in site.mailbox.to("grace@example.com")] == ["Please confirm", "Welcome"]


def test_a_visitor_who_does_not_confirm_in_time_is_no_member(site: Site, browser: Chrome) -> None:
    site.send("blog/signup.asked", signup="nobody", email="eve@example.com", within="1s")
    (run,) = site.ended("blog/signup.asked", signup="nobody")
    assert run["output"] == {"state": "expired"}
    browser.get(f"{site.url}/join/nobody")
    sees(browser, "[role=status]", "This link is too old. Please sign up again.")
    assert not [one for one in site.events("blog/member.joined") if one["member"] == "nobody"]


# --- what the tests do, and what they look at -------------------------------------------------------


def write(browser: Chrome, email: str) -> None:
    """Fill in the form of the contact page that is shown, and send it."""
    for name, value in {"name": "Ada", "email": email, "text": "Does it count?"}.items():
        browser.find_element(By.NAME, name).send_keys(value)
    browser.find_element(By.CSS_SELECTOR, "form button").click()


def until_emptied(browser: Chrome) -> None:
    """Return once the form is empty again, as it is when it was answered."""
    WebDriverWait(browser, PATIENCE_S, ignored_exceptions=CHANGING).until(
        lambda _: browser.find_element(By.NAME, "text").get_property("value") == "", "the form was never answered"
    )


def sees(browser: Chrome, selector: str, text: str) -> None:
    """Return once this element has this text."""
    seen: list[str] = []

    def look(_: Chrome) -> bool:
        seen[:] = [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]
        return text in seen

    WebDriverWait(browser, PATIENCE_S, ignored_exceptions=CHANGING).until(
        look, f"{selector} never said {text!r} but {seen}"
    )


def reloads_until_it_sees(site: Site, browser: Chrome, path: str, text: str) -> None:
    """Visit a page until it has this text."""

    def look() -> bool:
        browser.get(f"{site.url}{path}")
        return text in browser.find_element(By.TAG_NAME, "main").text

    site.until(f"{text!r} at {path}", look)


def post(id: str, slug: str, **fields: Any) -> dict[str, Any]:
    """A delivery of the CMS."""
    return {"id": id, "slug": slug, "title": f"Post {slug}", "text": "Some text.", "links": []} | fields


def views(site: Site, slug: str, count: int) -> None:
    """Tell the site of views, as pages of it do."""
    for _ in range(count):
        status, text = site.ask("POST", f"/api/posts/{slug}/views")
        assert status == 202, text


def steps(run: dict[str, Any]) -> dict[str, int]:
    """How many attempts each step of a run has taken."""
    return {step["name"]: len(step["attempts"]) for step in run["steps"] if step["id"]}
