"""Functions on real input: GitHub webhook deliveries, each an event ``github/<event>.<action>``.

Shows wildcards (``github/*`` takes every delivery, ``github/pull_request.*`` those of pull requests), an expression
that chooses among events, steps side by side in a TaskGroup, a StepError that is caught and one that is not, and what
a real feed is like: tag deletions without a commit, a pull request without a description, an issue without a body. The
last one fails a run, for a reason to be read in its error, and ``on_failure`` asks the author.

    make dev                                                                    # runs it and sends the deliveries
    millstream events send @examples/data/github-webhooks.jsonl                   # sends them again
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import millstream
from examples import records
from millstream import App, Context, Event, Linear, NonRetriableError, StepError

LINES_REVIEWABLE_MAX = 400
TOPICS = {
    "docs": frozenset({"readme", "docs", "documentation", "spelling", "typo"}),
    "bug": frozenset({"error", "crash", "fails", "broken", "exception", "wrong"}),
    "request": frozenset({"please", "add", "support", "feature", "wish"}),
}

app = App("webhooks")


@app.function(on="github/*", retries=2, backoff=Linear("1s"))
async def tally(ctx: Context) -> dict[str, Any]:
    """Every delivery: how large it is, and which one of its sender it is."""
    return await ctx.step.run("tally", measure, ctx.event.name, ctx.event.data)


@app.function(on="github/push", if_="!event.data.deleted")
async def summarise_push(ctx: Context) -> str:
    """What was pushed, in one line. Deleted branches and tags have no commit and start nothing: see ``if_``."""
    push = ctx.event.data
    files = await ctx.step.run("count-files", count_files, push["commits"])
    line = await ctx.step.run("write-line", write_line, push, files)
    await ctx.step.send_event("announce", Event("webhooks/push.summarised", {"line": line, "files": files}))
    return line


@app.function(on="github/pull_request.*", if_="event.data.pull_request.state == 'open'")
async def gate_pull_request(ctx: Context) -> dict[str, Any]:
    """May it be merged? Four checks side by side; one that fails is an objection, not a failed run."""
    pull = ctx.event.data["pull_request"]
    async with asyncio.TaskGroup() as checks:
        results = {
            check.__name__: checks.create_task(objection(ctx, check.__name__, check, pull))
            for check in (is_ready, is_described, is_reviewable, is_mergeable)
        }
    objections = {name: said for name, task in results.items() if (said := task.result())}
    verdict = "hold" if objections else "merge"
    return {"pull_request": pull["html_url"], "verdict": verdict, "objections": objections}


async def objection(ctx: Context, id: str, check: Any, pull: dict[str, Any]) -> str:
    """Run a check as a step; its objection, empty where it has none."""
    try:
        await ctx.step.run(id, check, pull)
    except StepError as error:
        return str(error)
    return ""


async def ask_author(ctx: Context) -> str:
    """An issue could not be triaged: write down what to ask its author. Runs as a function of its own."""
    failed = ctx.event.data
    issue = failed["event"]["data"]["issue"]
    question = f"@{issue['user']['login']}: {failed['error']['message']}"
    await ctx.step.run("ask", ask, issue["html_url"], question)
    return question


@app.function(on=["github/issues.opened", "github/issues.reopened", "github/issues.edited"], on_failure=ask_author)
async def triage_issue(ctx: Context) -> dict[str, Any]:
    """What is it about, and is it known already?"""
    issue = ctx.event.data["issue"]
    words = await ctx.step.run("read", read_words, issue)
    topics, known = await asyncio.gather(
        ctx.step.run("classify", classify, words),
        ctx.step.run("look-for-twins", look_for_twins, issue),
    )
    return {"issue": issue["html_url"], "topics": topics, "twins": known, "words": len(words)}


# --- the work of the steps: plain functions, each tried on its own in the tests ----------------


def measure(name: str, delivery: dict[str, Any]) -> dict[str, Any]:
    """Size and sender of a delivery; security advisories have none, nobody caused them."""
    sender = (delivery.get("sender") or {}).get("login", "nobody")
    count = records.keep("delivery", millstream.current().idempotency_key, sender, {"name": name})
    return {"sender": sender, "delivery_of_sender": count, "bytes": len(json.dumps(delivery)), "depth": depth(delivery)}


def depth(value: Any) -> int:
    """How deep objects and lists are nested."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((depth(part) for part in parts), default=0) if isinstance(value, dict | list) else 0


def count_files(commits: list[dict[str, Any]]) -> dict[str, int]:
    """Changed files by suffix, the most first."""
    changed = [file for commit in commits for kind in ("added", "modified", "removed") for file in commit[kind]]
    return dict(Counter(PurePosixPath(file).suffix or "(none)" for file in changed).most_common())


def write_line(push: dict[str, Any], files: dict[str, int]) -> str:
    """``Codertocat pushed 1 commit (1 .md) to Codertocat/Hello-World master``; tags come without commits."""
    who, where, commits = push["pusher"]["name"], push["repository"]["full_name"], len(push["commits"])
    if push["ref"].startswith("refs/tags/"):
        return f"{who} tagged {where} {push['ref'].removeprefix('refs/tags/')}"
    changed = ", ".join(f"{count} {suffix}" for suffix, count in files.items()) or "nothing changed"
    branch = push["ref"].removeprefix("refs/heads/")
    return f"{who} pushed {commits} commit{'' if commits == 1 else 's'} ({changed}) to {where} {branch}"


def is_ready(pull: dict[str, Any]) -> None:
    """Drafts wait."""
    if pull["draft"]:
        raise NonRetriableError("it is a draft")


def is_described(pull: dict[str, Any]) -> None:
    """A description says why."""
    if not (pull["body"] or "").strip():
        raise NonRetriableError("it has no description: say why the change is wanted")


def is_reviewable(pull: dict[str, Any]) -> None:
    """Nobody reads a thousand lines."""
    lines = pull["additions"] + pull["deletions"]
    if lines > LINES_REVIEWABLE_MAX:
        raise NonRetriableError(
            f"it changes {lines} lines: at most {LINES_REVIEWABLE_MAX} are read with care, split it"
        )


def is_mergeable(pull: dict[str, Any]) -> None:
    """GitHub works this out after the delivery: null means that it does not know yet."""
    if pull["mergeable"] is None:
        raise NonRetriableError("GitHub has not said yet whether it can be merged")
    if not pull["mergeable"]:
        raise NonRetriableError(f"it cannot be merged: {pull['mergeable_state']}")


def read_words(issue: dict[str, Any]) -> list[str]:
    """The words of title and body. Raises NonRetriableError where GitHub sent no body: they are null, not empty."""
    if issue["body"] is None:
        raise NonRetriableError(
            f"issue {issue['number']} ({issue['title']!r}) cannot be triaged: expected a text in field 'body', got "
            "null, so it was opened without a description. Please describe it; editing the issue starts a new run."
        )
    return re.findall(r"[a-z']+", f"{issue['title']} {issue['body']}".lower())


def classify(words: list[str]) -> list[str]:
    """The topics that share a word with the issue."""
    return [topic for topic, marks in TOPICS.items() if marks & set(words)]


def look_for_twins(issue: dict[str, Any]) -> int:
    """How many deliveries told of an issue with this title in this repository before."""
    subject = f"{issue['repository_url']} {issue['title'].lower()}"
    return records.keep("issue", millstream.current().idempotency_key, subject, {}) - 1


def ask(url: str, question: str) -> None:
    """Write the question down; a real one would be a comment."""
    records.keep("question", millstream.current().idempotency_key, url, {"url": url, "question": question})
