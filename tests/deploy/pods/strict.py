"""What the harness does not understand is an error: nothing of a manifest is passed over in silence.

Each part of a manifest that is read says which fields it knows. A field that a process on this machine cannot feel
(an image's pull policy, a memory limit) is named, too, beside those that are acted on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

Manifest = dict[str, Any]


class NotUnderstood(AssertionError):
    """A manifest has something that the harness does not know. Teach it, or leave it out of the chart."""


class CannotStart(AssertionError):
    """Kubernetes would not start the container: the message is what `kubectl describe pod` would say."""


def only(what: str, given: Mapping[str, Any], acted_on: Collection[str], not_felt: Collection[str] = ()) -> None:
    """Raise NotUnderstood where a mapping has a field that is in neither list."""
    unknown = sorted(set(given) - set(acted_on) - set(not_felt))
    if unknown:
        raise NotUnderstood(f"{what}: the harness does not know {', '.join(unknown)}")
