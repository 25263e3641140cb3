"""Who sends a signed request, and is it fresh: API keys, HMAC and Ed25519 signatures, timestamps."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from exchangesim.binance.errors import ApiError
from exchangesim.binance.parameters import Parameters
from exchangesim.core.accounts import Account, account_of
from exchangesim.core.exchange import SimExchange

_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")
_WINDOW = re.compile(r"[0-9]{1,20}(\.[0-9]{1,3})?")
DEFAULT_WINDOW_MS = 5000.0
LARGEST_WINDOW_MS = 60_000
BAD_KEY = (-2015, "Invalid API-key, IP, or permissions for action.")


class Authenticator:
    """Checks keys, signatures and timestamps of one exchange's accounts."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange
        self._public_keys: dict[str, Ed25519PublicKey] = {}

    def account(self, api_key: str | None) -> Account:
        """Return the key's account. Raises -2014 for no key at all, -2015 for one that is not known."""
        if not api_key or _KEY.fullmatch(api_key) is None:
            raise ApiError(-2014, "API-key format invalid.", status=401)
        account = account_of(self._exchange.accounts, api_key)
        if account is None:
            raise ApiError(*BAD_KEY, status=401)
        return account

    def permit(self, account: Account, permission: str) -> None:
        if permission not in account.permissions:
            raise ApiError(*BAD_KEY, status=401)

    def verify(self, account: Account, payload: str, signature: str) -> None:
        """Check a signature of ``payload``. Raises -1022."""
        if is_public_key(account.secret):
            try:
                self._public_key(account.secret).verify(base64.b64decode(signature, validate=True), payload.encode())
            except (InvalidSignature, binascii.Error, ValueError):
                raise ApiError(-1022, "Signature for this request is not valid.") from None
            return
        wanted = hmac.new(account.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted.encode(), signature.lower().encode()):
            raise ApiError(-1022, "Signature for this request is not valid.")

    def check_time(self, parameters: Parameters) -> None:
        """Check ``timestamp`` against ``recvWindow`` and the exchange's clock. Raises -1102, -1131 or -1021."""
        window = parameters.text("recvWindow")
        if window is not None and _WINDOW.fullmatch(window) is None:
            raise ApiError(-1100, "Illegal characters found in parameter 'recvWindow'; legal range is '^[0-9]{1,20}$'.")
        length = DEFAULT_WINDOW_MS if window is None else float(window)
        if length > LARGEST_WINDOW_MS:
            raise ApiError(-1131, "recvWindow must be less than 60000.")
        parameters.need("timestamp")
        stamp = parameters.integer("timestamp")
        assert stamp is not None
        sent_ms = stamp / 1000 if stamp > 10**14 else float(stamp)
        now_ms = self._exchange.clock.time_us() / 1000
        if sent_ms >= now_ms + 1000:
            raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - sent_ms > length:
            raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")

    def _public_key(self, pem: str) -> Ed25519PublicKey:
        key = self._public_keys.get(pem)
        if key is None:
            data = pem.encode()
            loaded = load_pem_private_key(data, None) if "PRIVATE" in pem else load_pem_public_key(data)
            if isinstance(loaded, Ed25519PrivateKey):
                loaded = loaded.public_key()
            if not isinstance(loaded, Ed25519PublicKey):
                raise ApiError(-1022, "Signature for this request is not valid.")
            key = self._public_keys[pem] = loaded
        return key


def is_public_key(secret: str) -> bool:
    """Tell whether an account's secret is a key pair's PEM rather than an HMAC secret."""
    return secret.lstrip().startswith("-----BEGIN")
