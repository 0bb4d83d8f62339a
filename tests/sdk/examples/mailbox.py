"""An SMTP server that keeps what it is given, and may be told to let every mail wait.

with Mailbox() as mailbox: mailbox.port, mailbox.mails
"""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from email.message import EmailMessage
from typing import Self

from tests.sdk.rig.processes import PATIENCE_S


class Mailbox:
    """``mails``: what was accepted, in order. While it is not ``open``, a mail is read and its answer waits."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.offered = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        self._server = _Server(self)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def to(self, address: str) -> list[EmailMessage]:
        """The mails to somebody."""
        return [mail for mail in self.mails if mail["To"] == address]

    def take(self, raw: bytes) -> None:
        """Read a mail, and accept it once this is open."""
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        self.offered.release()
        assert self.open.wait(PATIENCE_S), "the mailbox was never opened"
        self.mails.append(mail)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mailbox = mailbox


class _Session(socketserver.StreamRequestHandler):
    """One connection: the commands of RFC 5321 that a client without TLS and login sends."""

    def handle(self) -> None:
        self._say("220 mailbox")
        for line in self.rfile:
            match line.split(maxsplit=1)[0].upper() if line.strip() else b"":
                case b"EHLO" | b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP":
                    self._say("250 ok")
                case b"DATA":
                    self._say("354 go on")
                    self.server.mailbox.take(self._data())  # type: ignore[attr-defined]
                    self._say("250 accepted")
                case b"QUIT":
                    self._say("221 bye")
                    return
                case _:
                    self._say("502 not known here")

    def _data(self) -> bytes:
        """The lines up to the one with a dot alone, without the dots that were doubled."""
        lines = iter(self.rfile.readline, b".\r\n")
        return b"".join(line[1:] if line.startswith(b".") else line for line in lines)

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
