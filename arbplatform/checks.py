"""System checks: a production start is refused with wrong settings, each with its cure in the text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

NEW_SECRET_KEY = "python -c 'import secrets; print(secrets.token_urlsafe(50))'"  # noqa: S105
NEW_FIELD_KEY = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
_MIN_SECRET_LENGTH = 50
_MIN_SECRET_CHARACTERS = 5  # distinct ones; both as Django's own deployment check has it


@register(Tags.security)
def check_environment(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the settings every start needs, and in production those that keep an installation safe."""
    messages = [*_field_keys(), *_shape()]
    if settings.PRODUCTION:
        messages += [*_production()]
    elif settings.ARB_ENV != "embedded":
        messages.append(
            Error(
                f"ARB_ENV is {settings.ARB_ENV!r}; it must be 'embedded' or 'production'.",
                hint="Unset ARB_ENV for an embedded installation, or set ARB_ENV=production.",
                id="arb.E001",
            )
        )
    return messages


def refuse_unsafe_start() -> None:
    """Raise ImproperlyConfigured, naming every problem and cure, if the settings do not allow a start.

    For entry points that Django's own commands do not check: the ASGI application and Celery's worker and beat.
    """
    errors = [message for message in check_environment() if message.is_serious()]
    if errors:
        raise ImproperlyConfigured(" ".join(f"{error.msg} {error.hint}" for error in errors))


def _field_keys() -> Iterator[CheckMessage]:
    if not settings.ARB_FIELD_KEYS:
        yield Error(
            "ARB_FIELD_KEYS is not set: exchange credentials cannot be encrypted.",
            hint=f"Set it to one Fernet key (make one: {NEW_FIELD_KEY}); to rotate, put the new one first: NEW,OLD.",
            id="arb.E002",
        )
    for position, key in enumerate(settings.ARB_FIELD_KEYS, start=1):
        try:
            Fernet(key)
        except (ValueError, TypeError):
            yield Error(
                f"Key number {position} of ARB_FIELD_KEYS is not a Fernet key (32 bytes in URL-safe base64).",
                hint=f"Make one with: {NEW_FIELD_KEY}",
                id="arb.E003",
            )


def _shape() -> Iterator[CheckMessage]:
    sqlite = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
    if settings.ARB_SHAPE == "services" and sqlite:
        yield Error(
            "A broker is set but the database is SQLite, which separate processes and hosts cannot share well.",
            hint="Set DATABASE_URL=postgres://user:password@host:5432/name, or unset CELERY_BROKER_URL and REDIS_URL.",
            id="arb.E004",
        )
    if settings.ARB_SHAPE == "services" and not settings.REDIS_URL:
        yield Error(
            "CELERY_BROKER_URL is set but REDIS_URL is not: live pages would not hear of other processes.",
            hint="Set REDIS_URL=redis://host:6379/0 (the channel layer), or unset CELERY_BROKER_URL.",
            id="arb.E005",
        )


def _production() -> Iterator[CheckMessage]:
    if settings.DEBUG:
        yield Error("DEBUG is on in production.", hint="Unset DEBUG, or set DEBUG=0.", id="arb.E010")
    key = settings.SECRET_KEY
    if (
        len(key) < _MIN_SECRET_LENGTH
        or len(set(key)) < _MIN_SECRET_CHARACTERS
        or key.startswith("django-insecure-")
        or settings.ARB_SECRETS_GENERATED
    ):
        yield Error(
            f"SECRET_KEY is missing, a default or too weak for production (at least {_MIN_SECRET_LENGTH} characters).",
            hint=f"Set SECRET_KEY in the environment to a secret of its own (make one: {NEW_SECRET_KEY}).",
            id="arb.E011",
        )
    if not settings.ALLOWED_HOSTS or any(host in {"*", ".", "*.*"} for host in settings.ALLOWED_HOSTS):
        yield Error(
            "ALLOWED_HOSTS is empty or has '*' in production: any Host header would be believed.",
            hint="Set ALLOWED_HOSTS=arb.example.com to the names the site is reached by.",
            id="arb.E012",
        )
    if any("*" in urlsplit(origin).netloc.removeprefix("*.") for origin in settings.CSRF_TRUSTED_ORIGINS):
        yield Error(
            "CSRF_TRUSTED_ORIGINS has a '*' that matches every site.",
            hint="Name the site: CSRF_TRUSTED_ORIGINS=https://arb.example.com.",
            id="arb.E013",
        )
    if settings.ARB_SHAPE == "embedded":
        yield Warning(
            "Production runs embedded: one process on one host, and its queue is lost when it ends.",
            hint="Set DATABASE_URL to PostgreSQL and REDIS_URL to Redis to run web, engine and workers separately.",
            id="arb.W014",
        )
