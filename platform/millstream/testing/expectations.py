"""``NotAsExpected``: what the kit raises when a test asks for something that is not so.

It is an AssertionError too, so that a test runner shows a failed test and not a broken one.
"""

from __future__ import annotations

from millstream.errors import MillstreamError


class NotAsExpected(MillstreamError, AssertionError):
    """The test expected something that did not happen. The message says what did."""
