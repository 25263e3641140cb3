"""Log lines people can read, with secrets taken out before anything is written."""

from __future__ import annotations

import logging
import re
import time

# Names under which credentials travel in URLs, headers, JSON and reprs of the exchanges we speak with.
_NAMES = (
    "api[_-]?key|apikey|secret|secret[_-]?key|password|passwd|passphrase|signature|sign|token|listen[_-]?key"
    "|authorization|x-mbx-apikey|ok-access-[a-z]+|x-bapi-[a-z-]+|cookie|sessionid|arb_session|arb_csrf|field[_-]?keys"
)
_PAIR = re.compile(rf"(?i)(?<![a-z])((?:{_NAMES})[\"']?\s*[=:]\s*(?:bearer\s+|basic\s+)?[\"']?)([^\s\"'&,;}})\]]+)")
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@")


def redact(text: str) -> str:
    """Return ``text`` with the values of secret-looking names and passwords in URLs replaced by ``***``."""
    return _URL_PASSWORD.sub(r"\1:***@", _PAIR.sub(r"\1***", text))


class RedactSecrets(logging.Filter):
    """Format the record once and keep only the redacted text, so no handler sees the original."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        return True


class RefusalsInOneLine(logging.Filter):
    """Leave the traceback out of refused requests (4xx), which Django logs with one: nothing is broken."""

    def filter(self, record: logging.LogRecord) -> bool:
        if 400 <= getattr(record, "status_code", 0) < 500:
            record.exc_info = record.exc_text = None
        return True


class LineFormatter(logging.Formatter):
    """``21:07:23.512 INFO engine: text`` in UTC; a traceback follows only where the logger asked for one."""

    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def formatException(self, ei: object) -> str:  # noqa: N802
        return redact(super().formatException(ei))  # type: ignore[arg-type]
