from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from channels.layers import channel_layers
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from bots import live_cache
from bots.api.auth import wrong_tokens
from tests.live.desk import Desk, make_desk
from tests.live.items import quote

_keys = count(1)


class Caller:
    """A program or page that asks the API; problems it is answered are checked for their form."""

    def __init__(self, user: User | None = None, *, token: str = "", csrf: bool = False) -> None:
        self.client = Client(enforce_csrf_checks=csrf)
        if user is not None:
            self.client.force_login(user)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, address: str, **query: Any) -> HttpResponse:
        return self._checked(self.client.get(address, query, headers=self.headers))

    def post(self, address: str, data: Any = None, *, key: str | None = "", **headers: str) -> HttpResponse:
        """Post JSON (a string is sent as it is); the key is a new one unless given, None leaves it out."""
        sent = {**self.headers, **headers}
        if key is not None:
            sent["Idempotency-Key"] = key or f"key-{next(_keys)}"
        body = data if isinstance(data, str | bytes) else json.dumps(data)
        return self._checked(self.client.post(address, body, content_type="application/json", headers=sent))

    def _checked(self, answer: HttpResponse) -> HttpResponse:
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"
            problem = answer.json()
            assert problem.keys() == {"type", "title", "status", "detail", "errors"}
            assert problem["status"] == answer.status_code
            assert problem["detail"].endswith(".")
            assert all(error.keys() == {"field", "limit", "given", "message"} for error in problem["errors"])
        return answer


def fields(answer: HttpResponse) -> dict[str, dict[str, str]]:
    """Return the errors of a problem by field."""
    return {error["field"]: error for error in answer.json()["errors"]}


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    channel_layers.backends.clear()
    live_cache.last_known.clear()
    live_cache.last_known.remember([quote(bid=50_000.0, ask=50_010.0), quote("okx-sim", bid=50_000.0, ask=50_010.0)])
    wrong_tokens.clear()
    yield
    channel_layers.backends.clear()
    live_cache.last_known.clear()
    wrong_tokens.clear()


@pytest.fixture
def desk(transactional_db: None) -> Desk:
    return make_desk()


@pytest.fixture
def alice(desk: Desk) -> Caller:
    return Caller(desk.user)


@pytest.fixture
def order(desk: Desk) -> Callable[..., dict[str, Any]]:
    """Return a function that makes the body of a small paper purchase."""

    def made(**changes: Any) -> dict[str, Any]:
        data = {
            "mode": "paper", "account_id": desk.accounts["binance-sim"].pk, "symbol": "BTC/USDT", "side": "buy",
            "amount": "0.01", "order": "adaptive",
        }  # fmt: skip
        return {name: value for name, value in {**data, **changes}.items() if value is not None}

    return made
