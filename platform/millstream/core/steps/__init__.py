"""The step kinds of the product. Each module is one kind and exports one value, ``KIND`` (``core/step_kinds.py``).

Add a step kind: its operation in ``model/operations.py``; facts and their branches in ``model/facts/`` and
``schemas/journal``, where it has any of its own; a module here; one line below; a method of the tools in
``sdk/steps.py``.
"""

from __future__ import annotations

from typing import Final

from millstream.core import step_kinds
from millstream.core.steps import (
    callback,
    callback_post,
    gateway,
    invoke,
    publish,
    run,
    send_event,
    sleep,
    wait_for_event,
    wait_for_signal,
)

for _kind in (
    run.KIND, sleep.KIND, send_event.KIND, publish.KIND, wait_for_event.KIND, wait_for_signal.KIND, invoke.KIND,
    callback.KIND, callback_post.KIND, gateway.KIND, gateway.AI_KIND,
):  # fmt: skip
    step_kinds.add(_kind)

KINDS: Final = step_kinds.KINDS
"""Every registered kind, by its name."""
SHOWS: Final = step_kinds.SHOWS
"""How the history shows the facts that only one kind makes, by their class."""
