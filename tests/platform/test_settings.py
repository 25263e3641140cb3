"""Settings and system checks, read by real processes from real environments."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parents[2]
CLEARED = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "ARB_ENV", "DEBUG", "SECRET_KEY", "ARB_FIELD_KEYS")


def environment(state: Path, **given: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "arbplatform.settings",
        "ARB_DOTENV": "",
        "ARB_STATE_DIR": str(state),
        **given,
    }


def run(arguments: list[str], state: Path, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=ROOT,
        env=environment(state, **given),
        capture_output=True,
        text=True,
        timeout=60,
    )


def check(state: Path, **given: str) -> subprocess.CompletedProcess[str]:
    return run(["manage.py", "check"], state, **given)


def read(state: Path, *names: str, **given: str) -> dict[str, object]:
    code = (
        f"import json; from django.conf import settings as s; print(json.dumps({{n: getattr(s, n) for n in {names}}}))"
    )
    done = run(["-c", code], state, **given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def production(**changes: str) -> dict[str, str]:
    good = {
        "ARB_ENV": "production",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ARB_FIELD_KEYS": Fernet.generate_key().decode(),
        "ALLOWED_HOSTS": "arb.example.com",
        "DATABASE_URL": "postgres://arb:pw@127.0.0.1:1/arb",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    return {name: value for name, value in {**good, **changes}.items() if value != "(unset)"}


def test_without_any_setting_it_is_embedded_and_whole(tmp_path: Path) -> None:
    seen = read(tmp_path, "ARB_SHAPE", "DEBUG", "ARB_ALLOW_LIVE_ORDERS", "CELERY_BROKER_URL", "DATABASES")
    assert seen["ARB_SHAPE"] == "embedded"
    assert seen["DEBUG"] is False
    assert seen["ARB_ALLOW_LIVE_ORDERS"] is False
    assert seen["CELERY_BROKER_URL"] == "memory://localhost/"
    database = seen["DATABASES"]["default"]
    assert database["NAME"] == str(tmp_path / "arb.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_services_take_the_place_of_embedded_parts(tmp_path: Path) -> None:
    seen = read(
        tmp_path, "ARB_SHAPE", "CHANNEL_LAYERS", "CELERY_BROKER_URL", "DATABASES",
        DATABASE_URL="postgres://arb:pw@db:5433/arb", REDIS_URL="redis://cache:6379/2", CELERY_BROKER_URL="amqp://q//",
    )  # fmt: skip
    assert seen["ARB_SHAPE"] == "services"
    assert seen["CELERY_BROKER_URL"] == "amqp://q//"
    assert seen["CHANNEL_LAYERS"]["default"]["BACKEND"] == "channels_redis.pubsub.RedisPubSubChannelLayer"
    assert (seen["DATABASES"]["default"]["HOST"], seen["DATABASES"]["default"]["PORT"]) == ("db", 5433)


def test_a_dotenv_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    dotenv = tmp_path / "env"
    dotenv.write_text("ARB_ALLOW_LIVE_ORDERS=1\nALLOWED_HOSTS=from-file\n")
    seen = read(
        tmp_path, "ARB_ALLOW_LIVE_ORDERS", "ALLOWED_HOSTS", ARB_DOTENV=str(dotenv), ALLOWED_HOSTS="from-environment"
    )
    assert seen == {"ARB_ALLOW_LIVE_ORDERS": True, "ALLOWED_HOSTS": ["from-environment"]}


def test_a_good_production_passes(tmp_path: Path) -> None:
    done = check(tmp_path, **production())
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "secrets.json").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"DEBUG": "1"}, "DEBUG is on"),
        ({"SECRET_KEY": "(unset)"}, "SECRET_KEY is missing"),
        ({"SECRET_KEY": "django-insecure-" + "x1y2z3" * 10}, "SECRET_KEY is missing, a default"),
        ({"SECRET_KEY": "short"}, "at least 50"),
        ({"ARB_FIELD_KEYS": "(unset)"}, "ARB_FIELD_KEYS is not set"),
        ({"ARB_FIELD_KEYS": "nonsense"}, "not a Fernet key"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": "(unset)"}, "ALLOWED_HOSTS"),
        ({"CSRF_TRUSTED_ORIGINS": "https://*"}, "CSRF_TRUSTED_ORIGINS"),
        ({"DATABASE_URL": "(unset)"}, "SQLite"),
        ({"REDIS_URL": "(unset)", "CELERY_BROKER_URL": "amqp://q//"}, "REDIS_URL is not"),
        ({"ARB_ENV": "prodution"}, "must be 'embedded' or 'production'"),
    ],
)
def test_a_wrong_start_is_refused_with_the_cure(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    done = check(tmp_path, **production(**changes))
    assert done.returncode == 1
    assert says in done.stderr
    assert "HINT:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_web_application_refuses_an_unsafe_production_by_itself(tmp_path: Path) -> None:
    done = run(["-c", "import arbplatform.asgi"], tmp_path, **production(DEBUG="1", ALLOWED_HOSTS="*"))
    assert done.returncode == 1
    assert "DEBUG is on" in done.stderr
    assert "ALLOWED_HOSTS" in done.stderr


def test_secrets_of_the_environment_are_not_in_what_a_refusal_prints(tmp_path: Path) -> None:
    given = production(DEBUG="1", ARB_FIELD_KEYS="half-a-key-that-was-pasted-wrong")
    done = check(tmp_path, **given)
    assert given["SECRET_KEY"] not in done.stderr
    assert given["ARB_FIELD_KEYS"] not in done.stderr


def test_a_state_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = check(tmp_path / "file" / "state")
    assert done.returncode == 1
    assert done.stderr.startswith("arb: the state directory")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "garbage", "DATABASE_URL cannot be read"),
        ("DATABASE_URL", "postgre//arb:topsecret@127.0.0.1/arb", "DATABASE_URL cannot be read"),
        ("DATABASE_URL", "mysql://arb:topsecret@127.0.0.1/arb", "DATABASE_URL cannot be read"),
        ("DATABASE_URL", "postgres://arb:topsecret@127.0.0.1:port/arb", "DATABASE_URL cannot be read"),
        ("ARB_ENGINES_PER_HOST", "many", "ARB_ENGINES_PER_HOST must be a whole number of at least 1 (given 'many')"),
        *(
            (
                "ARB_MAX_LOOP_LAG_SECONDS",
                given,
                f"ARB_MAX_LOOP_LAG_SECONDS must be a number of seconds of at least 0.05 (given {given!r})",
            )
            for given in ("nan", "inf", "0", "-1", "soon", "1,5")
        ),
        ("ARB_ENGINES_PER_HOST", "0", "ARB_ENGINES_PER_HOST must be a whole number of at least 1 (given '0')"),
        ("ARB_LOG_LEVEL", "loud", "ARB_LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL (given 'LOUD')"),
    ],
)
def test_a_setting_that_cannot_be_read_is_one_sentence_without_secrets(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    done = check(tmp_path, **{name: value})
    assert done.returncode == 1
    assert done.stderr.startswith(f"arb: {said}")
    assert len(done.stderr.splitlines()) == 1
    assert "topsecret" not in done.stderr
