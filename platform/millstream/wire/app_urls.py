"""URLs of apps over HTTP: the app's own, and that of a function or step of it, which the protocol's parameters make.

http://h/api/inngest  ──call_url──>  http://h/api/inngest?fnId=shop-fulfil&stepId=step
                      <──base_url──
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_plus, unquote_plus, urlsplit, urlunsplit

BODY_STEP: Final = "step"
"""What the protocol calls the body where a step's id is asked."""
OWN_QUERY: Final = ("fnId", "stepId", "deployId", "probe", "syncId")
"""Query parameters that the protocol puts into an app's URL."""


def base_url(url: str) -> str:
    """An app's address without what the protocol adds: function, step, sync, probe."""
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in OWN_QUERY]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "&".join(kept), ""))


def call_url(url: str, function: str, step: str = "") -> str:
    """The URL of a call: that of the app, with the function's slug and the step's id; other parameters stay."""
    ours = f"fnId={quote_plus(function)}&stepId={quote_plus(step or BODY_STEP)}"
    if "?" not in url and "#" not in url:
        return f"{url}?{ours}"
    base = base_url(url)
    return f"{base}{'&' if '?' in base else '?'}{ours}"
