"""What each operation of a report leads to. One module a step kind; this table is all the engine asks.

Add a step kind: its operation in ``model/operations.py``, a module here with a function ``(plan, operation) -> None``,
one line in the table below, one method in ``sdk/steps.py``, its facts in ``schemas/journal``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from millstream.core.runs.plan import Plan
from millstream.core.steps import body, publish, run, send_event, sleep
from millstream.model.operations import (
    BodyDone,
    BodyErrored,
    PublishFound,
    SendFound,
    SleepFound,
    StepDone,
    StepErrored,
    StepFound,
)

# ``Any`` because each function takes its own operation; the keys say which.
DECIDE: Final[dict[type, Callable[[Plan, Any], None]]] = {
    StepDone: run.done,
    StepErrored: run.errored,
    StepFound: run.found,
    SleepFound: sleep.found,
    SendFound: send_event.found,
    PublishFound: publish.found,
    BodyDone: body.done,
    BodyErrored: body.errored,
}
