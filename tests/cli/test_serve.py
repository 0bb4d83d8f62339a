"""``millstream serve``: production on one machine. Who may send, and does a kill lose anything?"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.cli.program import PATIENCE_S, millstream, serving

KEY = "a-key-of-production"


def test_without_an_event_key_it_refuses_with_words(tmp_path: Path) -> None:
    ended = millstream("serve", "shop:app", cwd=tmp_path)
    assert ended.code == 2
    assert "--event-key" in ended.err and "MILLSTREAM_EVENT_KEYS" in ended.err and "secrets.token_hex" in ended.err
    both = millstream("serve", "shop:app", "--insecure-no-event-key", "--event-key", KEY, cwd=tmp_path)
    assert both.code == 2 and "both" in both.err
    assert not (tmp_path / ".millstream").exists(), "nothing is made for a start that is refused"


def test_it_takes_events_with_its_key_only_and_its_page_has_no_dev_banner(tmp_path: Path) -> None:
    with serving(tmp_path, "--event-key", KEY, command="serve") as served:
        for key, status in (("another", 401), (KEY, 200)):
            try:
                url = f"{served.url}/e/{key}"
                answered = urllib.request.urlopen(url, b'{"name": "shop/quick"}', timeout=30).status
            except urllib.error.HTTPError as error:
                answered = error.code
            assert answered == status
        with urllib.request.urlopen(served.url, timeout=30) as page:
            text = page.read().decode()
        assert "<h1>millstream</h1>" in text and 'class="banner"' not in text and ">DEV<" not in text


def test_what_it_has_acknowledged_survives_kill_9_and_the_data_of_dev_is_its_own(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    key = ("--event-key", KEY)
    with serving(tmp_path) as served:  # millstream dev, on the same directory.
        acknowledged += sent(served.call("events", "send", "-", stdin=LINES))
    for _ in range(3):
        with serving(tmp_path, *key, command="serve") as served:
            acknowledged += sent(served.call("events", "send", "-", *key, stdin=LINES))
            served.process.kill()
            served.process.wait()
    with serving(tmp_path, *key, command="serve") as served:
        ends_s = time.monotonic() + PATIENCE_S
        while len(runs := served.call("runs", "list", "--status", "Completed", "--limit", "1000").rows) < 4 * EVENTS:
            assert time.monotonic() < ends_s, len(runs)
        assert sorted(run["event_id"] for run in runs) == sorted(acknowledged), "each event, once"
    assert millstream("lanes", "verify", "--data", "data", cwd=tmp_path).code == 0


EVENTS = 100
LINES = '{"name": "shop/quick"}\n' * EVENTS


def sent(ended: object) -> list[str]:
    """The ids that were acknowledged."""
    ids = [row["id"] for row in ended.rows]  # type: ignore[attr-defined]
    assert len(ids) == EVENTS, ended
    return ids


GIVES_AWAY = """
from millstream import App, Context

app = App("shop")

@app.function(on="shop/asks", retries=0)
async def asks(ctx: Context):
    return (await ctx.step.callback("cb", timeout="1d")).url
"""


def given_away(folder: Path, *more: str, command: str = "serve") -> tuple[str, str]:
    """Where the server listens; and the URL of a callback, or why there is none."""
    key = ("--event-key", KEY)
    with serving(folder, *key, *more, command=command, files={"shop.py": GIVES_AWAY}) as served:
        run = served.start_run("shop/asks", *key)
        watched = served.call("runs", "watch", run)
        assert watched.code in (0, 1), watched.err
        return served.url, str(served.call("runs", "get", run).rows[0]["output"])


def test_callbacks_have_the_address_that_it_was_told_and_without_one_say_what_to_set(tmp_path: Path) -> None:
    _, told = given_away(tmp_path)
    assert "--public-url" in told and "MILLSTREAM_PUBLIC_URL" in told
    _, url = given_away(tmp_path, "--public-url", "https://hooks.example.com/shop/")
    assert url.startswith("https://hooks.example.com/shop/v1/callbacks/")


def test_the_callbacks_of_dev_have_its_own_address(tmp_path: Path) -> None:
    own, url = given_away(tmp_path, command="dev")
    assert url.startswith(f"{own}/v1/callbacks/")
