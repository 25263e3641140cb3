"""Encrypts exchange credentials. Keys are ARB_FIELD_KEYS: the newest encrypts, all decrypt.

The account's id is inside the encrypted text and is checked, so a ciphertext copied to another row opens nothing.
No error of this module says anything about the text or the keys.
"""

from __future__ import annotations

import hashlib

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from trading.config import Credentials


class CredentialsUnreadable(Exception):
    """The stored credentials cannot be used, and why."""


class _Sealed(msgspec.Struct):
    account: int
    credentials: Credentials

    def __repr__(self) -> str:
        return "_Sealed(***)"


def _cipher() -> MultiFernet:
    try:
        keys = [Fernet(key) for key in settings.ARB_FIELD_KEYS]
    except (ValueError, TypeError):
        # The cause would carry the key's text.
        raise ImproperlyConfigured(
            "ARB_FIELD_KEYS: each key must be 32 bytes in URL-safe base64, as Fernet.generate_key() makes them"
        ) from None
    if not keys:
        raise ImproperlyConfigured("ARB_FIELD_KEYS: at least one key is needed to store credentials (none given)")
    return MultiFernet(keys)


def seal(account_id: int, credentials: Credentials) -> str:
    """Encrypt credentials for one account."""
    plaintext = msgspec.json.encode(_Sealed(account_id, credentials))
    return _cipher().encrypt(plaintext).decode("ascii")


def unseal(account_id: int, ciphertext: str) -> Credentials:
    """Decrypt what :func:`seal` made for the same account.

    Raises
    ------
    CredentialsUnreadable
        If no key opens it, or it was made for another account.
    """
    try:
        sealed = msgspec.json.decode(_cipher().decrypt(ciphertext.encode()), type=_Sealed)
    except (InvalidToken, msgspec.MsgspecError, UnicodeError):
        raise CredentialsUnreadable(
            f"the credentials of account {account_id} cannot be decrypted with any of ARB_FIELD_KEYS: "
            "add the key they were stored with, or set them again"
        ) from None
    if sealed.account != account_id:
        raise CredentialsUnreadable(
            f"the credentials stored with account {account_id} were made for another account: set them again"
        )
    return sealed.credentials


def reseal(account_id: int, ciphertext: str) -> str:
    """Encrypt the same credentials with the newest key, after a new one was put first."""
    return seal(account_id, unseal(account_id, ciphertext))


def fingerprint(api_key: str) -> str:
    """Return what tells whether two accounts hold the same key, without telling the key (SHA-256, 64 hex digits)."""
    return hashlib.sha256(b"arb account key:" + api_key.encode()).hexdigest()
