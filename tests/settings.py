"""The platform's settings for a test run: a state directory of its own, and nothing from `.env`.

`DATABASE_URL`, `REDIS_URL` and `CELERY_BROKER_URL` of the environment still put services in place; `./arb test` sets
them for the part of the tests that runs again on PostgreSQL and Redis.
"""

import atexit
import os
import shutil
import tempfile

if "ARB_TEST_STATE_DIR" not in os.environ:  # workers of one run inherit it
    os.environ["ARB_TEST_STATE_DIR"] = tempfile.mkdtemp(prefix="arb-test-")
    atexit.register(shutil.rmtree, os.environ["ARB_TEST_STATE_DIR"], ignore_errors=True)
os.environ["ARB_STATE_DIR"] = os.environ["ARB_TEST_STATE_DIR"]
os.environ["ARB_DOTENV"] = ""
for name in ("ARB_ENV", "ARB_ALLOW_LIVE_ORDERS", "SECRET_KEY", "ARB_FIELD_KEYS", "DEBUG", "ALLOWED_HOSTS"):
    os.environ.pop(name, None)

# Tests that run side by side share a Redis: neither hears the other's messages nor takes its tasks.
_prefix = os.environ.setdefault("ARB_TEST_REDIS_PREFIX", f"arb-test-{os.getpid()}")
os.environ["ARB_REDIS_PREFIX"] = f"{_prefix}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"

from arbplatform.settings import *  # noqa: E402, F403
from arbplatform.settings import DATABASES  # noqa: E402

# Signing in is not what most tests are about, and a strong hash takes 0.2 s each time.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, not memory: engine, workers and pages are threads with connections of their own, as they are in life.
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(os.environ["ARB_STATE_DIR"], "test.sqlite3")}
else:
    # Two runs on one server do not meet; connections are closed with their thread, so that the database can be dropped.
    DATABASES["default"]["TEST"] = {"NAME": f"test_arb_{os.environ.setdefault('ARB_TEST_RUN', str(os.getpid()))}"}
    DATABASES["default"]["OPTIONS"].pop("pool", None)
