"""All tests and checks of the project, part by part, with one summary at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from arbplatform import testservers
from arbplatform.state import REPOSITORY
from arbplatform.testservers import Missing

PYTHON = sys.executable
MANAGE = [PYTHON, str(REPOSITORY / "manage.py")]
NO_TESTS_COLLECTED = 5  # pytest's exit code

CHECKS: dict[str, list[str]] = {
    "ruff check": [PYTHON, "-m", "ruff", "check", "."],
    "ruff format": [PYTHON, "-m", "ruff", "format", "--check", "."],
    "mypy": [PYTHON, "-m", "mypy"],
    "import borders": [str(Path(PYTHON).with_name("lint-imports")), "--no-cache"],
    "system check": [*MANAGE, "check"],
    "migrations": [*MANAGE, "makemigrations", "--check", "--dry-run"],
}
QUICK_CHECKS = ("ruff check", "ruff format", "system check")


@dataclass
class Result:
    """What one part came to; ``skipped`` counts tests, ``missing`` says why a whole part could not run."""

    name: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    missing: str = ""
    reasons: dict[str, int] = field(default_factory=dict)


def run(*, fast: bool, pytest_arguments: Sequence[str], strict: bool) -> int:
    """Run what was asked for, print a summary, return the exit code; ``strict`` makes a skip a failure."""
    results: list[Result] = []
    if not pytest_arguments:
        results += [check(name, command) for name, command in CHECKS.items() if not fast or name in QUICK_CHECKS]
    with tempfile.TemporaryDirectory(prefix="arb-test-") as scratch:
        reports = Path(scratch)
        embedded = {"DATABASE_URL": "", "REDIS_URL": "", "CELERY_BROKER_URL": ""}
        # As many as cores: what they start (exchanges, hosts) are processes too, and time limits are theirs to share.
        # Files keep the order that tests/conftest.py gives them.
        parallel = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
        chosen = list(pytest_arguments)
        results.append(
            pytest("tests, embedded", "not browser and not services", [*parallel, *chosen], embedded, reports)
        )
        if not fast:
            results.append(on_services("tests, PostgreSQL and Redis", [*parallel, *chosen], reports))
            results.append(in_browser("tests, browser", chosen, embedded, reports))
    return summarise(results, strict=strict)


def check(name: str, command: Sequence[str]) -> Result:
    """Run one static check; its output is shown only when it fails."""
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    result = Result(
        name, time.monotonic() - started, passed=int(not done.returncode), failed=int(bool(done.returncode))
    )
    say(f"{'ok    ' if not done.returncode else 'FAILED'} {name} ({result.seconds:.1f} s)")
    if done.returncode:
        say((done.stdout + done.stderr).rstrip())
    return result


def pytest(name: str, markers: str, arguments: Sequence[str], environment: Mapping[str, str], reports: Path) -> Result:
    """Run pytest in a process of its own with its output shown, and read its counts from its report."""
    say(f"\n== {name}")
    report = reports / f"{name.replace(' ', '-').replace(',', '')}.xml"
    started = time.monotonic()
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "--no-header", "-m", markers, f"--junitxml={report}", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ARB_TEST_RUN": str(os.getpid()), **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    result = Result(name)
    if report.exists():
        read_report(report, result)
    if done.returncode not in (0, NO_TESTS_COLLECTED) and not result.failed:
        result.failed = 1  # it broke before or after its tests
    result.seconds = time.monotonic() - started
    return result


def read_report(report: Path, result: Result) -> None:
    """Add the counts of a JUnit report, and why tests were skipped."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 (written by our own run)
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif skipped is not None:
            result.skipped += 1
            reason = skipped.get("message") or "no reason given"
            result.reasons[reason] = result.reasons.get(reason, 0) + 1
        else:
            result.passed += 1


def on_services(name: str, arguments: Sequence[str], reports: Path) -> Result:
    """Run the tests of the database, channel layer and broker again on PostgreSQL and Redis."""
    with ExitStack() as stack:
        database = stack.enter_context(testservers.postgresql())
        if isinstance(database, Missing):
            return absent(name, database)
        redis = stack.enter_context(testservers.redis())
        if isinstance(redis, Missing):
            return absent(name, redis)
        environment = {
            "DATABASE_URL": database,
            "REDIS_URL": redis,
            "CELERY_BROKER_URL": redis,
        }
        return pytest(name, "(database or services) and not browser and not sqlite", arguments, environment, reports)


def in_browser(name: str, arguments: Sequence[str], environment: Mapping[str, str], reports: Path) -> Result:
    """Run the tests that drive Chromium."""
    chromium = testservers.chromium()
    if isinstance(chromium, Missing):
        return absent(name, chromium)
    return pytest(name, "browser", arguments, {**environment, "ARB_CHROMIUM": chromium}, reports)


def absent(name: str, missing: Missing) -> Result:
    say(f"\n== {name}\nskipped: {missing.reason}")
    return Result(name, missing=missing.reason)


def summarise(results: Sequence[Result], *, strict: bool) -> int:
    """Print a line a part and the totals; return 0 only if nothing failed (and, if strict, nothing was skipped)."""
    say("\n== summary")
    for result in results:
        counts = f"{result.passed} passed, {result.failed} failed, {result.skipped} skipped"
        say(f"{result.name:28} {'skipped: ' + result.missing if result.missing else counts} ({result.seconds:.1f} s)")
        for reason, count in sorted(result.reasons.items()):
            say(f"{'':28} {count} skipped: {reason}")
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    skipped = sum(result.skipped + bool(result.missing) for result in results)
    if strict and skipped:
        say("CI is set, so what was skipped counts as failed")
        failed, skipped = failed + skipped, 0
    say(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
