"""The state directory, and the secrets an embedded installation makes for itself at its first start."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import NamedTuple

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

REPOSITORY = Path(__file__).resolve().parent.parent
SECRETS_FILE = "secrets.json"


class Secrets(NamedTuple):
    """What an installation must keep to itself; ``field_keys`` are Fernet keys, newest first."""

    secret_key: str
    field_keys: tuple[str, ...]
    generated: bool

    def __repr__(self) -> str:
        return "Secrets(***)"


def state_directory() -> Path:
    """Return ``ARB_STATE_DIR`` (default ``var`` in the repository) as an absolute path; it need not exist."""
    return Path(os.environ.get("ARB_STATE_DIR") or REPOSITORY / "var").expanduser().absolute()


def demo_environment() -> dict[str, str]:
    """Return the environment the demo runs in: embedded, on data of its own, whatever the platform is set to.

    Nothing of a configured installation (its database, broker, keys, permission for live orders) reaches the demo.
    """
    return {
        "ARB_STATE_DIR": str(state_directory() / "demo"),
        "ARB_DOTENV": "",
        **dict.fromkeys(
            (
                "ARB_ENV", "DEBUG", "DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "SECRET_KEY", "ARB_FIELD_KEYS",
                "ARB_ALLOW_LIVE_ORDERS",
            ),
            "",
        ),
        # Its terminal shows where to look and what goes wrong.
        "ARB_LOG_LEVEL": os.environ.get("ARB_LOG_LEVEL") or "WARNING",
        # Cookies know no ports: beside a platform on the same machine the demo must not sign its users out.
        "SESSION_COOKIE_NAME": "arb_demo_session",
        "CSRF_COOKIE_NAME": "arb_demo_csrf",
    }  # fmt: skip


def make_directory(path: Path) -> None:
    """Create a directory readable by its owner alone.

    Raises
    ------
    ImproperlyConfigured
        If it cannot be created or written to, with the cure.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as problem:
        raise ImproperlyConfigured(
            f"the state directory {path} cannot be written ({problem.strerror}): make it writable for this user, "
            "or set ARB_STATE_DIR to a directory that is"
        ) from None


def load_or_make_secrets(directory: Path) -> Secrets:
    """Read the generated secrets of ``directory``; make them (mode 0600) if there are none yet.

    Two processes that start at once end up with the same secrets: the file appears complete, by a link.
    """
    path = directory / SECRETS_FILE
    if not path.exists():
        make_directory(directory)
        fresh = {"SECRET_KEY": secrets.token_urlsafe(50), "ARB_FIELD_KEYS": [Fernet.generate_key().decode()]}
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=".secrets-")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(fresh, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    try:
        stored = json.loads(path.read_text())
        return Secrets(str(stored["SECRET_KEY"]), tuple(map(str, stored["ARB_FIELD_KEYS"])), generated=True)
    except (OSError, ValueError, KeyError, TypeError):
        raise ImproperlyConfigured(
            f"{path} cannot be read as the generated secrets: restore it from a backup, or set SECRET_KEY and "
            "ARB_FIELD_KEYS in the environment (without the old ARB_FIELD_KEYS stored credentials stay unreadable)"
        ) from None
