"""An operator at the running demo: breakers, the switch and limits hold its bots at once, and let them go on."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.platform.processes import Command

logger = logging.getLogger("tests.risk")

GENEROUS_SECONDS = 5.0  # for what is to hold within one
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.timeout(300)


class Operator:
    """A session of the demo's operator, looking at anna's desk."""

    def __init__(self, url: str, password: str) -> None:
        self._url = url
        self._session = requests.Session()
        page = self._session.get(f"{url}/sign-in/", timeout=20).text
        fields = {"username": "operator", "password": password, "csrfmiddlewaretoken": token_of(page)}
        page = self._session.post(f"{url}/sign-in/", fields, headers={"Referer": url}, timeout=20)
        self._token = token_of(page.text)
        found = re.search(r'value="(\d+)"[^>]*>desk of anna', page.text)
        assert found is not None, page.text
        self.anna = found.group(1)

    def snapshot(self) -> dict[str, Any]:
        answer = self._session.get(f"{self._url}/api/live/snapshot?owner={self.anna}", timeout=20)
        return answer.json()["data"]

    def order(self, path: str, **body: Any) -> dict[str, Any]:
        headers = {"X-CSRFToken": self._token, "Referer": self._url}
        answer = self._session.post(f"{self._url}/api/live/{path}", json=body, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def add_limit(self, **values: str) -> None:
        """Fill in the admin's form."""
        address = f"{self._url}/admin/risk/risklimit/add/"
        page = self._session.get(address, timeout=20).text
        fields = {"csrfmiddlewaretoken": token_of(page), "seen_version": "0", **values}
        answer = self._session.post(address, fields, headers={"Referer": address}, timeout=20)
        assert not answer.url.endswith("/add/"), re.findall(r"error[^<]*<[^<]*<", answer.text)

    def wait(self, what: str, condition: Callable[[dict[str, Any]], object], seconds: float) -> float:
        """Wait until a snapshot is so; return the seconds it took."""
        begun = time.monotonic()
        while True:
            seen = self.snapshot()
            took = time.monotonic() - begun
            if condition(seen):
                logger.info("%s after %.2f s", what, took)
                return took
            if took > seconds:
                last = [(row["check"], row["reason"]) for row in seen["opportunities"][:5]]
                pytest.fail(f"{what}: not after {seconds} s; bots {seen['bots']}, opportunities {last}")
            time.sleep(0.05)


def token_of(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None, page
    return found.group(1)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with Command(Path(tmp_path_factory.mktemp("demo")) / "state", "demo", "--port", "0") as running:
        url = running.wait_ready()
        password = re.search(r"Sign in as operator\s+password (\S+)", running.said)
        assert password is not None, running.said
        operator = Operator(url, password[1])
        operator.wait("the demo's first trade", lambda seen: seen["trades"], PATIENCE_SECONDS)
        yield operator
        assert running.stop() == 0


def refused(check: str, words: str, since: float) -> Callable[[dict[str, Any]], bool]:
    def condition(seen: dict[str, Any]) -> bool:
        return any(
            row["at"] > since and row["check"] == check and words in row["reason"] for row in seen["opportunities"]
        )

    return condition


def traded(since: float) -> Callable[[dict[str, Any]], bool]:
    return lambda seen: any(trade["opened_at"] > since for trade in seen["trades"])


def assert_obeyed(operator: Operator, since: float) -> None:
    """Check that no trade was opened later than GENEROUS_SECONDS after an order.

    By the trades' own moments: how soon an opportunity comes that can be refused is the market's affair.
    """
    assert not traded(since + GENEROUS_SECONDS)(operator.snapshot())


def stays_still(operator: Operator, seconds: float) -> None:
    """Look that no trade is opened for a while."""
    since = time.time()
    time.sleep(seconds)
    assert not traded(since)(operator.snapshot())


def test_a_tripped_breaker_stops_the_bots_and_its_reset_lets_them_go_on(operator: Operator) -> None:
    at, began = {"scope": "owner", "key": operator.anna}, time.time()
    tripped = operator.order("breakers/trip", **at, reason="a drill", seconds=600, version=0)["breaker"]
    held = refused("breaker", "The circuit breaker of owner", began)
    operator.wait("a trade refused by the breaker", held, PATIENCE_SECONDS)
    assert_obeyed(operator, began)
    shown = [row for row in operator.snapshot()["breakers"] if row["scope"] == "owner"]
    assert [(row["name"], row["state"], row["reason"]) for row in shown] == [("owner anna", "open", "a drill")]
    assert 500 < shown[0]["until"] - time.time() < 600
    stays_still(operator, 3.0)
    began = time.time()
    operator.order("breakers/reset", **at, reason="the drill is over", version=tripped["version"])
    operator.wait("a trade after the reset", traded(began), PATIENCE_SECONDS)
    assert operator.snapshot()["breakers"] == []


def test_killed_trading_opens_nothing_until_it_is_resumed(operator: Operator) -> None:
    at, began = {"scope": "global", "key": ""}, time.time()
    killed = operator.order("switch", **at, state="kill", reason="a drill", version=0)["switch"]
    held = refused("switch", "killed for everybody: a drill", began)
    operator.wait("a trade refused by the switch", held, PATIENCE_SECONDS)
    assert_obeyed(operator, began)
    stays_still(operator, 3.0)
    began = time.time()
    operator.order("switch", **at, state="normal", reason="the drill is over", version=killed["version"])
    operator.wait("a trade after trading was resumed", traded(began), PATIENCE_SECONDS)


def test_a_limit_set_in_the_admin_binds_the_next_decision_of_a_running_bot(operator: Operator) -> None:
    began = time.time()
    operator.add_limit(scope="owner", owner=operator.anna, rule="max_edge_bps", value="1", note="a drill")
    operator.wait(
        "a trade refused by the new limit",
        lambda seen: any(row["at"] > began and "owner anna" in row["reason"] for row in seen["opportunities"]),
        PATIENCE_SECONDS,
    )
    assert_obeyed(operator, began)
    stays_still(operator, 3.0)
