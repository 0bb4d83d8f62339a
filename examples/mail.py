"""Mail that is written down rather than sent: the examples talk to no network.

It behaves as providers with idempotency keys do: the same key sends one mail, however often it is asked for. Delivery
takes ``DELIVERY_S``, as a mail server would, so that there is something to wait for; tests set it to 0.
"""

from __future__ import annotations

import time

import millstream
from examples import records

DELIVERY_S = 1.0


def send(to: str, subject: str, text: str) -> dict[str, str]:
    """ "Send" a mail from a step; what the provider would answer."""
    time.sleep(DELIVERY_S)  # The step is a plain function: it waits in a thread, and nothing else waits with it.
    key = millstream.current().idempotency_key
    records.keep("mail", key, to, {"to": to, "subject": subject, "text": text})
    return {"to": to, "key": key}
