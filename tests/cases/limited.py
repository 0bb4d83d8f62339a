"""The functions with limits, as an app of their own."""

from __future__ import annotations

from millstream import App
from tests.chaos.limited import declare

app = App("limited")
declare(app)
