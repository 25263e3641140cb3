"""Texts from outside, fit for logs and pages: no keys, no signatures, no walls of HTML."""

from __future__ import annotations

import re

from trading.config import Credentials

LONGEST = 300
# Signed requests end up in client libraries' error texts.
_SIGNED = re.compile(
    r"(?i)(signature|sign|apikey|api_key|passphrase|listenkey|timestamp)(=|%3D|\"?\s*:\s*\"?)[^&\s\",}]+"
)
_URL_QUERY = re.compile(r"\?[^\s\"']+")


class Scrubber:
    """Removes an account's secrets, and anything that looks like a signed request, from a text."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        secrets = (credentials.api_key, credentials.secret, credentials.passphrase) if credentials else ()
        # A private key's lines may come out one by one, their breaks made spaces.
        lines = [line for secret in secrets for line in (secret, *secret.splitlines()) if "-----" not in line]
        self._secrets = [secret for secret in dict.fromkeys((*secrets, *lines)) if len(secret) >= 4]

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def error(self, error: BaseException | None) -> str:
        """Return an exception as one short line; its class tells what kind of trouble it was."""
        if error is None:
            return "no reason given"
        text = _URL_QUERY.sub("", self(str(error)))
        text = _SIGNED.sub(r"\1\2***", " ".join(text.split()))
        name = type(error).__name__
        return f"{name}: {text[:LONGEST]}" if text else name
