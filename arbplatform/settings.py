"""Settings, all from the environment (or a `.env` file beside manage.py); README and `.env.example` list them.

Without any, the platform runs embedded: SQLite in the state directory, broker and channel layer in the process.
`DATABASE_URL`, `REDIS_URL` and `CELERY_BROKER_URL` put services in their place, `ARB_ENV=production` turns the
safety checks of :mod:`arbplatform.checks` into conditions for starting.
"""

from __future__ import annotations

from datetime import timedelta
from math import inf, nan
from pathlib import Path
from socket import gethostname
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from arbplatform.csp import POLICY
from arbplatform.state import REPOSITORY, Secrets, load_or_make_secrets, state_directory
from arbplatform.unfold import UNFOLD  # noqa: F401 (read by the admin's theme)

DATABASE_SCHEMES = ("postgres", "postgresql", "psql", "pgsql", "sqlite")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

env = environ.Env()
_dotenv = env.str("ARB_DOTENV", default=str(REPOSITORY / ".env"))
if _dotenv and Path(_dotenv).is_file():
    env.read_env(_dotenv)  # what the environment already says wins


def _flag(name: str, *, default: bool = False) -> bool:
    """Read a yes or no; a variable that is set but empty counts as unset."""
    return env.bool(name) if env.str(name, default="") else default


def _number(name: str, *, default: int, least: int = 1) -> int:
    text = env.str(name, default="")
    if text and not (text.isdecimal() and int(text) >= least):
        raise ImproperlyConfigured(f"{name} must be a whole number of at least {least} (given {text[:40]!r})")
    return int(text) if text else default


def _seconds(name: str, *, default: float, least: float) -> float:
    text = env.str(name, default="")
    try:
        value = float(text or default)
    except ValueError:
        value = nan
    if not least <= value < inf:
        raise ImproperlyConfigured(f"{name} must be a number of seconds of at least {least} (given {text[:40]!r})")
    return value


def _database(url: str) -> dict[str, Any]:
    """Read DATABASE_URL. What is wrong with it is said without it: there is a password in it."""
    try:
        if urlsplit(url).scheme in DATABASE_SCHEMES:
            return env.db_url_config(url)
    except ValueError:  # a port that is no number, half an IPv6 address
        pass
    raise ImproperlyConfigured(
        "DATABASE_URL cannot be read: it must look like postgres://user:password@host:5432/name "
        "(special characters in the password as %40 and so on) or sqlite:////folder/file.sqlite3"
    )


BASE_DIR = REPOSITORY
ARB_STATE_DIR = state_directory()
ARB_ENV = env.str("ARB_ENV", default="") or "embedded"
PRODUCTION = ARB_ENV == "production"
DEBUG = _flag("DEBUG")

# Live orders need three yeses; this is the first. The account's and the bot's are in the database.
ARB_ALLOW_LIVE_ORDERS = _flag("ARB_ALLOW_LIVE_ORDERS")

# --- secrets -----------------------------------------------------------------------------------------------------

_given = Secrets(
    env.str("SECRET_KEY", default=""), tuple(filter(None, env.list("ARB_FIELD_KEYS", default=[]))), generated=False
)
if not PRODUCTION and not (_given.secret_key and _given.field_keys):
    _made = load_or_make_secrets(ARB_STATE_DIR)
    _given = Secrets(_given.secret_key or _made.secret_key, _given.field_keys or _made.field_keys, generated=True)
# An empty key would make Django refuse with a traceback; the system check names the cure instead.
SECRET_KEY = _given.secret_key or "missing"
ARB_FIELD_KEYS = list(_given.field_keys)
ARB_SECRETS_GENERATED = _given.generated
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])

# --- hosts -------------------------------------------------------------------------------------------------------

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
ROOT_URLCONF = "arbplatform.urls"
ASGI_APPLICATION = "arbplatform.asgi.application"

# --- applications ------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "arbplatform",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.inlines",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "django_celery_beat",
    "ninja",
    "risk",
    "bots",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "arbplatform.static_files.StaticFilesMiddleware",
    "arbplatform.csp.PolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- database ----------------------------------------------------------------------------------------------------

DATABASE_URL = env.str("DATABASE_URL", default="") or f"sqlite:///{ARB_STATE_DIR / 'arb.sqlite3'}"
DATABASES = {"default": _database(DATABASE_URL)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # WAL alone still fails with "database is locked" when a transaction that has read wants to write; beginning
    # every transaction as a writer makes the others wait instead.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"].setdefault("OPTIONS", {})
    DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", 5)
    # A network that goes silent is noticed in seconds; TCP alone takes a quarter of an hour.
    for name, value in (("tcp_user_timeout", 10_000), ("keepalives_idle", 5), ("keepalives_interval", 2),
                        ("keepalives_count", 3)):  # fmt: skip
        DATABASES["default"]["OPTIONS"].setdefault(name, value)
    # A process that stands still in the middle of a transaction holds its row locks, and its successor waits for them.
    DATABASES["default"]["OPTIONS"].setdefault("options", "-c idle_in_transaction_session_timeout=10000")
    DATABASES["default"]["OPTIONS"].setdefault(
        "pool", {"min_size": 0, "max_size": _number("ARB_DATABASE_POOL", default=10), "timeout": 10}
    )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- channel layer and broker ------------------------------------------------------------------------------------

REDIS_URL = env.str("REDIS_URL", default="")
# Installations that share a Redis have prefixes of their own.
ARB_REDIS_PREFIX = env.str("ARB_REDIS_PREFIX", default="arb")
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="") or REDIS_URL or "memory://localhost/"
# "services": pages, engines and workers may be separate processes. "embedded": everything is in this one.
ARB_SHAPE = "embedded" if urlsplit(CELERY_BROKER_URL).scheme == "memory" else "services"

if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL], "prefix": ARB_REDIS_PREFIX},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "arbplatform.channel_layers.LoopSafeInMemoryChannelLayer"}}

# Owners whose engines one host runs; further ones wait for another host.
ARB_ENGINES_PER_HOST = _number("ARB_ENGINES_PER_HOST", default=50)
# An engine whose event loop stands still for longer begins no new trade until it keeps time again.
ARB_MAX_LOOP_LAG_SECONDS = _seconds("ARB_MAX_LOOP_LAG_SECONDS", default=0.5, least=0.05)
# Names the address this host's requests come from: exchanges count them by address, so hosts behind one share limits.
ARB_EGRESS_ADDRESS = env.str("ARB_EGRESS_ADDRESS", default="") or gethostname()

CELERY_TASK_DEFAULT_QUEUE = "tasks"
CELERY_TASK_ROUTES = {"bots.tasks.host_engines": {"queue": "engines"}}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 15.0
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_ENABLE_UTC = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
# Copied into the database at the start of beat, where operators may change them.
CELERY_BEAT_SCHEDULE = {
    "offer engines": {
        "task": "bots.tasks.offer_engines",
        "schedule": timedelta(seconds=2),
        "options": {"expires": 2.0},  # the next offer is as good
    },
    "refresh markets": {"task": "bots.tasks.markets_refresh", "schedule": timedelta(hours=12)},
    "refresh margins": {"task": "bots.tasks.margins_refresh", "schedule": timedelta(minutes=5)},
    "refresh wallets": {"task": "bots.tasks.wallets_refresh", "schedule": timedelta(minutes=5)},
    "prune decisions": {"task": "bots.tasks.prune_decisions", "schedule": timedelta(hours=1)},
    "prune profits": {"task": "bots.tasks.prune_profits", "schedule": timedelta(hours=1)},
    "prune breakers": {"task": "risk.tasks.prune_breaker_events", "schedule": timedelta(hours=6)},
    "roll up slippage": {
        "task": "bots.tasks.roll_up_slippage",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60.0},  # the next one does the same
    },
    "roll up fees": {
        "task": "bots.tasks.roll_up_fees",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60.0},  # the next one does the same
    },
    "propose rebalancing": {
        "task": "bots.tasks.propose_rebalances",
        "schedule": timedelta(minutes=5),
        "options": {"expires": 300.0},
    },
    "follow rebalancing": {
        "task": "bots.tasks.follow_rebalances",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 5.0},  # the next one does the same
    },
    "prune answers": {"task": "bots.tasks.prune_answers", "schedule": timedelta(hours=6)},
    "prune slippage": {"task": "bots.tasks.prune_slippage", "schedule": timedelta(hours=6)},
    "prune slippage stats": {"task": "risk.tasks.prune_slippage_stats", "schedule": timedelta(hours=6)},
}
if ARB_SHAPE == "embedded":
    # The memory transport otherwise looks for messages once a second.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"polling_interval": 0.01}
else:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": ARB_REDIS_PREFIX + ":"}

# --- pages -------------------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATIC_ROOT = (env.str("STATIC_ROOT", default="") or str(ARB_STATE_DIR / "staticfiles")) if PRODUCTION else None
STATICFILES_DIRS = [path for path in [BASE_DIR / "static"] if path.is_dir()]
# Embedded serves files from where they lie; production collects, hashes and compresses them.
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "/live/"

# --- security ----------------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
CONTENT_SECURITY_POLICY = POLICY
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
# Cookies are not separated by port: two installations on one machine would sign each other's users out.
SESSION_COOKIE_NAME = env.str("SESSION_COOKIE_NAME", default="arb_session")
CSRF_COOKIE_NAME = env.str("CSRF_COOKIE_NAME", default="arb_csrf")
if PRODUCTION:
    SECURE_SSL_REDIRECT = _flag("SECURE_SSL_REDIRECT", default=True)
    SECURE_HSTS_SECONDS = _number("SECURE_HSTS_SECONDS", default=31_536_000, least=0)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _flag("SECURE_HSTS_SUBDOMAINS")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    if _flag("ARB_BEHIND_TLS_PROXY", default=True):
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- logs --------------------------------------------------------------------------------------------------------

LOG_LEVEL = (env.str("ARB_LOG_LEVEL", default="") or "INFO").upper()
if LOG_LEVEL not in LOG_LEVELS:
    raise ImproperlyConfigured(f"ARB_LOG_LEVEL must be one of {', '.join(LOG_LEVELS)} (given {LOG_LEVEL[:40]!r})")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "redact": {"()": "arbplatform.logs.RedactSecrets"},
        "refusals": {"()": "arbplatform.logs.RefusalsInOneLine"},
    },
    "formatters": {"line": {"()": "arbplatform.logs.LineFormatter"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["redact", "refusals"]},
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Their own handlers would print each line twice, and Django's mail handler has nobody to write to.
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        "uvicorn": {"handlers": [], "level": "WARNING", "propagate": True},
        "celery": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "django_celery_beat": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "picows": {"level": "WARNING"},
        "psycopg.pool": {"level": "ERROR"},  # it warns at every attempt; whoever asked for a connection is told
    },
}
