"""The failure that says that millstream broke a promise, whatever the machine was doing at that time."""

from __future__ import annotations


class BrokenPromise(AssertionError):
    """Something was lost, was done twice, or came out of order.

    The message says what. A test that fails with it is never given a second chance by ``run_layers.py``: that the
    same test passes a minute later does not bring back what was lost.
    """
