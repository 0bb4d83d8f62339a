"""A setting: what one line of ``config.SETTINGS`` says, and how a value is read from what a user wrote.

Add a kind: its name here, a branch in ``parse``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from millstream.errors import ConfigError, FunctionError
from millstream.model.address import http_url
from millstream.model.text.durations import duration_text, to_ms
from millstream.model.text.redaction import MASK, keep_secret, redacted

PREFIX: Final = "MILLSTREAM_"
NUMBER_CHARS_MAX: Final = 18
DURATION_MS_MAX: Final = 3_650 * 86_400_000
VALUE_SHOWN_CHARS_MAX: Final = 200

TEXT: Final = "text"
NUMBER: Final = "number"
DURATION: Final = "duration"  # "10m", "1h30m", or seconds; held as milliseconds
CHOICE: Final = "choice"
SWITCH: Final = "switch"  # true or false
URL: Final = "url"  # http or https
TEXTS: Final = "texts"  # several: the flag repeated, the variable with commas

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off", "")

Value = str | int | bool | tuple[str, ...] | None
"""What a setting may be; None: not set, and there is no default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One line of the table.

    ``default``   as a user would write it; "" is no default for numbers and durations.
    ``flag``      the option on the command line; the variable is ``MILLSTREAM_<NAME>``. A switch that is on by default
                  has two, ``--x/--no-x``.
    ``metavar``   what stands behind the flag in its help.
    ``secret``    shown masked, and taken out of all text that the process writes.
    """

    name: str
    kind: str
    doc: str
    flag: str
    default: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 1 << 31
    secret: bool = False

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()

    def parse(self, text: str, origin: str) -> Value:
        """The value of what a user wrote. Raises ConfigError that names ``origin``, the flag or variable."""
        self.check(text, origin)
        match self.kind:
            case "number":
                return self._number(text, origin)
            case "duration":
                return self._duration(text, origin)
            case "choice" if text not in self.choices:
                raise ConfigError(
                    f"{origin} was refused: expected one of {', '.join(self.choices)}, got {_shown(text)}."
                )
            case "switch":
                return self._switch(text, origin)
            case "url" if text:
                http_url(text, origin)
            case "texts":
                return tuple(part.strip() for part in text.split(",") if part.strip())
        return text

    def check(self, text: str, origin: str) -> None:
        """Raise ConfigError for text that nobody can have meant; remember what is secret, so that it is never shown."""
        if not text.isprintable():  # Halves of surrogate pairs are not either: an argument that is no UTF-8.
            got = f"{len(text)} characters" if self.secret else _shown(text)
            raise ConfigError(
                f"{origin} was refused: expected text in UTF-8 without control characters, got {got}. "
                "Look for a line's end, or an escape sequence, that was copied with it."
            )
        if self.secret:
            for secret in (text, *text.split(",")):
                keep_secret(secret.strip())

    def shown(self, value: Value) -> str:
        """The value as ``config show`` prints it."""
        if value is None or value in ("", ()):
            return ""
        if self.secret:
            return MASK
        if self.kind == DURATION:
            return duration_text(cast("int", value))
        if isinstance(value, bool):
            return "true" if value else "false"
        return redacted(",".join(value) if isinstance(value, tuple) else str(value))

    def _number(self, text: str, origin: str) -> int | None:
        if not text:
            return None
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= NUMBER_CHARS_MAX):
            raise ConfigError(f"{origin} was refused: expected a whole number, got {_shown(text)}.")
        if not self.minimum <= int(text) <= self.maximum:
            raise ConfigError(f"{origin} was refused: expected {self.minimum} to {self.maximum}, got {text}.")
        return int(text)

    def _duration(self, text: str, origin: str) -> int | None:
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = None  # Not plain seconds: "10m" and the like.
        try:
            length_ms = to_ms(text if seconds is None else seconds, origin)
            if length_ms <= DURATION_MS_MAX:
                return length_ms
            raise FunctionError(f"{origin} refused: expected at most {duration_text(DURATION_MS_MAX)}.")
        except FunctionError as error:
            raise ConfigError(
                f'{origin} was refused: expected a length of time such as "30s", "10m", "24h", or seconds, at most '
                f"{duration_text(DURATION_MS_MAX)}, got {_shown(text)}."
            ) from error

    def _switch(self, text: str, origin: str) -> bool:
        if text.lower() not in _TRUE + _FALSE:
            raise ConfigError(f"{origin} was refused: expected true or false, got {_shown(text)}.")
        return text.lower() in _TRUE


def _shown(text: str) -> str:
    return repr(redacted(text[:VALUE_SHOWN_CHARS_MAX]))
