"""Certificates, users and listener settings of a secured local broker. For development and tests, nothing else.

| ``--security`` | clients talk | and show |
|---|---|---|
| plaintext | in the clear | nothing |
| tls | TLS | nothing |
| mtls | TLS | a certificate: `CN=<user>` becomes `User:<user>` |
| sasl-plain | TLS | a user and password |
| sasl-scram | TLS | a user and password, which never go over the wire (SCRAM-SHA-512) |

In DIR/security: `ca.pem` (what clients trust), `<user>.pem` and `<user>.key`, `<user>.password`, and `other-ca.pem`, a
certificate authority that signed nothing: to see what a client says that trusts the wrong one.
Brokers and controllers talk in the clear, on ports of their own, as a super user: this is one machine.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jars import Missing

PROTOCOLS = {
    "plaintext": "PLAINTEXT",
    "tls": "SSL",
    "mtls": "SSL",
    "sasl-plain": "SASL_SSL",
    "sasl-scram": "SASL_SSL",
}
USERS = ("admin", "operator", "worker", "api", "history", "producer", "nobody")
"""`admin` may do everything; with ``--authorizer`` the others may do what you allow them to."""

SCRAM = "SCRAM-SHA-512"
VALID_DAYS = "3650"


@dataclass(frozen=True)
class Security:
    """How a broker is secured, and the folder with what that takes."""

    kind: str
    authorizer: bool
    folder: Path

    @property
    def tls(self) -> bool:
        """Whether clients talk TLS."""
        return self.kind != "plaintext"

    @property
    def sasl(self) -> bool:
        """Whether clients show a user and a password."""
        return self.kind.startswith("sasl-")

    def prepare(self) -> None:
        """Make what is missing of certificates and passwords."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if self.tls and not (self.folder / "ca.pem").exists():
            self._make_certificates()
        for user in USERS if self.sasl else ():
            password = self.folder / f"{user}.password"
            if not password.exists():
                password.write_text(secrets.token_hex(12))

    def password(self, user: str) -> str:
        """What the user has to say."""
        return (self.folder / f"{user}.password").read_text()

    def format_arguments(self) -> list[str]:
        """For `kafka-storage format`: SCRAM users are kept in the cluster's metadata."""
        if self.kind != "sasl-scram":
            return []
        pairs = (f"{SCRAM}=[name={user},password={self.password(user)}]" for user in USERS)
        return [part for pair in pairs for part in ("--add-scram", pair)]

    def properties(self) -> dict[str, str]:
        """Broker settings for the listener CLIENT."""
        settings: dict[str, str] = {}
        if self.authorizer:
            settings["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            settings["super.users"] = (
                "User:ANONYMOUS;User:admin" if self.kind in ("mtls", "sasl-plain", "sasl-scram") else "User:ANONYMOUS"
            )
        if self.tls:
            settings["listener.name.client.ssl.keystore.type"] = "PEM"
            settings["listener.name.client.ssl.keystore.location"] = str(self.folder / "broker.keystore.pem")
            settings["listener.name.client.ssl.truststore.type"] = "PEM"
            settings["listener.name.client.ssl.truststore.location"] = str(self.folder / "ca.pem")
            settings["listener.name.client.ssl.client.auth"] = "required" if self.kind == "mtls" else "none"
            settings["ssl.principal.mapping.rules"] = "RULE:^CN=([^,]+).*$/$1/,DEFAULT"
        if self.kind == "sasl-plain":
            users = " ".join(f'user_{user}="{self.password(user)}"' for user in USERS)
            module = "org.apache.kafka.common.security.plain.PlainLoginModule"
            settings["listener.name.client.sasl.enabled.mechanisms"] = "PLAIN"
            settings["listener.name.client.plain.sasl.jaas.config"] = f"{module} required {users};"
        if self.kind == "sasl-scram":
            module = "org.apache.kafka.common.security.scram.ScramLoginModule"
            settings["listener.name.client.sasl.enabled.mechanisms"] = SCRAM
            settings[f"listener.name.client.{SCRAM.lower()}.sasl.jaas.config"] = f"{module} required;"
        return settings

    def _make_certificates(self) -> None:
        self._make_authority("ca")
        self._make_authority("other-ca")
        self._sign("broker", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        keystore = (self.folder / "broker.key").read_text() + (self.folder / "broker.pem").read_text()
        (self.folder / "broker.keystore.pem").write_text(keystore)
        for user in USERS if self.kind == "mtls" else ():
            self._sign(user, "extendedKeyUsage=clientAuth")

    def _make_authority(self, name: str) -> None:
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", VALID_DAYS,
            "-subj", f"/CN=millstream test {name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip

    def _sign(self, name: str, extension: str) -> None:
        (self.folder / "extension").write_text(extension + "\n")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", VALID_DAYS, "-extfile", "extension", "-out", f"{name}.pem")  # fmt: skip
        for left in ("extension", f"{name}.csr"):
            (self.folder / left).unlink()

    def _openssl(self, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise Missing("`openssl` is needed for certificates. Install it (Debian: `apt-get install openssl`).")
        ran = subprocess.run([program, *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Missing(f"openssl {arguments[0]} failed:\n{ran.stderr}")
