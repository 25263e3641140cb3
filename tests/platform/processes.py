"""The platform's commands as real processes, on a state directory of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLEARED = (
    "ARB_ENV", "ARB_FIELD_KEYS", "CELERY_BROKER_URL", "DATABASE_URL", "DEBUG", "DJANGO_SETTINGS_MODULE", "REDIS_URL",
    "SECRET_KEY",
)  # fmt: skip
READY = re.compile(r"http://127\.0\.0\.1:\d+")


def environment(state: Path, **given: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    return {**kept, "ARB_DOTENV": "", "ARB_STATE_DIR": str(state), "PYTHONUNBUFFERED": "1", **given}


def manage(state: Path, *arguments: str, timeout: float = 60, **given: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env=environment(state, **given), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


class Command:
    """A command that runs until it is told to stop. Use it in a ``with`` block: it never outlives the test."""

    def __init__(self, state: Path, *arguments: str, **given: str) -> None:
        handle, path = tempfile.mkstemp(dir=state.parent, prefix=f"{arguments[0]}-", suffix=".log")
        self.log = Path(path)
        with os.fdopen(handle, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), *arguments],
                env=environment(state, **given), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_ready(self, seconds: float = 120) -> str:
        """Return the address it serves once a page answers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.said
            found = READY.search(self.said)
            if found and answers(found[0] + "/healthz"):
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s: {self.said}")

    def wait_said(self, text: str, seconds: float = 120) -> None:
        """Return once its output has ``text``."""
        until = time.monotonic() + seconds
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, f"not said after {seconds} s: {self.said}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT, seconds: float = 90) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except (urllib.error.URLError, OSError):
        return False
