"""``Unawaited``: the steps that a body has asked for and not awaited yet, and the lines that did so.

A step tool is a coroutine: without ``await`` nothing happens, and nobody would say so. So each is kept until it has
begun, with the place of the call; what is still here when the handler returns was never awaited.
"""

from __future__ import annotations

import sys
from types import CodeType, CoroutineType
from typing import Any, Final

_frame: Final = sys._getframe
_TOOL: Final = 2
"""Frames from ``add`` to the caller of the step tool."""


class Unawaited:
    """The steps of one body that have not begun. Costs a step about 0.2 µs."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[CoroutineType[Any, Any, Any], CodeType, int]] = []

    def add(self, step: Any) -> None:
        """A step tool was called, by its caller's caller."""
        steps, frame = self._steps, _frame(_TOOL)
        asked = (step, frame.f_code, frame.f_lasti)
        if steps and steps[-1][0].cr_frame is None:
            steps[-1] = asked  # That one has ended: of one step after another no more than one is kept.
        else:
            steps.append(asked)

    def left(self) -> list[tuple[CoroutineType[Any, Any, Any], str]]:
        """The steps that have not begun, each with the place of its call."""
        steps = self._steps
        if len(steps) == 1 and steps[0][0].cr_frame is None:
            return []  # Nearly all handlers, at once.
        return [(step, _place(code, at)) for step, code, at in steps if not _has_begun(step)]


def _has_begun(step: CoroutineType[Any, Any, Any]) -> bool:
    """Also of one that was closed, or whose task was cancelled before its turn."""
    return step.cr_suspended or step.cr_running or step.cr_frame is None


def _place(code: CodeType, at: int) -> str:
    lines = (line for start, end, line in code.co_lines() if start <= at < end and line is not None)
    return f"{code.co_filename}, line {next(lines, code.co_firstlineno)}, in {code.co_qualname}"
