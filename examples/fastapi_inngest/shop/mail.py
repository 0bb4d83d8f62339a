"""Mail over SMTP, to the server that SMTP_HOST and SMTP_PORT name.

A step whose process dies after the mail and before its answer runs again. The mail has the same Message-ID then, so
that a mailbox can tell that it has it already.
"""

from __future__ import annotations

import asyncio
import os
import smtplib
from email.message import EmailMessage

HOST = os.environ.get("SMTP_HOST", "127.0.0.1")
PORT = int(os.environ.get("SMTP_PORT", "1025"))
TIMEOUT_S = 30.0
SENDER = "shop@example.com"


async def send(key: str, to: str, subject: str, text: str) -> str:
    """Hand a mail to the SMTP server; its Message-ID. The same ``key`` makes the same Message-ID."""
    mail = EmailMessage()
    mail["Message-ID"] = f"<{key}@shop.example.com>"
    mail["From"], mail["To"], mail["Subject"] = SENDER, to, subject
    mail.set_content(text)
    await asyncio.to_thread(_deliver, mail)  # smtplib blocks; other requests go on meanwhile.
    return str(mail["Message-ID"])


def _deliver(mail: EmailMessage) -> None:
    with smtplib.SMTP(HOST, PORT, timeout=TIMEOUT_S) as server:
        server.send_message(mail)
