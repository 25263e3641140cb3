"""Whatever is sent to any operation the API describes, it is answered: never a failure of the server."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bots.api.site import site
from tests.api.conftest import Caller
from tests.live.desk import make_desk

pytestmark = [pytest.mark.django_db(transaction=True)]

# Whatever JSON can say; surrogates and control characters included.
TEXT = st.text(max_size=80)
ODD = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1e400",
        "NaN",
        "Infinity",
        "1_0",
        "０",
        "9" * 30,
        "0.000000000000000000001",
        "%00",
        "\x00",
        "'",
        "../",
    ]
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, ODD)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = site.get_openapi_schema(path_prefix="/api/")["paths"]
    return [(path, method, told) for path, methods in sorted(paths.items()) for method, told in sorted(methods.items())]


def resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return components[schema["$ref"].rpartition("/")[2]]
    return schema


def nearly(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that a field takes, or nearly does, or doesn't at all."""
    if "anyOf" in schema:
        return st.one_of(*(nearly(one) for one in schema["anyOf"]), SCALARS)
    if "enum" in schema:
        return st.one_of(st.sampled_from(schema["enum"]), SCALARS)
    if schema.get("type") == "integer":
        return st.one_of(st.integers(-2, 130), st.integers(2**62, 2**70), SCALARS)
    if schema.get("type") == "string":
        amounts = st.decimals(min_value=0, max_value=10**6, places=5).map(str)
        return st.one_of(amounts, st.sampled_from(["BTC/USDT", "paper", "live"]), ODD, SCALARS)
    return JSON


@pytest.mark.parametrize(("path", "method", "told"), operations(), ids=lambda one: one if isinstance(one, str) else "")
def test_no_input_breaks_an_operation(transactional_db: None, path: str, method: str, told: dict[str, Any]) -> None:
    desk = make_desk()
    caller = Caller(desk.user)
    components = site.get_openapi_schema(path_prefix="/api/")["components"]["schemas"]
    body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    properties = resolved(body, components).get("properties", {})
    parameters = told.get("parameters", [])

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def tried(data: st.DataObject) -> None:
        address, query = path, []
        headers = {"Idempotency-Key": data.draw(st.one_of(st.just("key"), ODD, TEXT.filter(_header)))}
        for one in parameters:
            value = data.draw(nearly(one["schema"]), label=one["name"])
            if one["in"] == "path":
                address = address.replace(f"{{{one['name']}}}", quote(_text(value) or "0", safe="", errors="replace"))
            elif one["in"] == "query" and (one["required"] or data.draw(st.booleans())):
                query.append(f"{one['name']}={quote(_text(value), safe='', errors='replace')}")
        address = f"{address}?{'&'.join(query)}"
        if method == "get":
            answer = caller.client.get(address, headers=headers)
        else:
            sent = {name: data.draw(nearly(schema), label=name) for name, schema in properties.items()}
            if properties and data.draw(st.booleans()):  # mostly right, so that it gets further
                right = {
                    "mode": "paper", "account_id": desk.accounts["binance-sim"].pk, "symbol": "BTC/USDT",
                    "side": "buy", "amount": "0.01", "trade_id": "none",
                }  # fmt: skip
                kept = data.draw(st.sets(st.sampled_from(sorted(properties)), max_size=3))
                sent = {name: sent[name] for name in kept} | {
                    name: value for name, value in right.items() if name in properties and name not in kept
                }
            raw = data.draw(st.one_of(st.just(json.dumps(sent)), JSON.map(json.dumps), TEXT))
            answer = caller.client.post(
                address, raw.encode("utf-8", "surrogatepass"), content_type="application/json", headers=headers
            )
        assert answer.status_code < 500, answer.content
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"

    tried()


def _header(text: str) -> bool:
    return text.isprintable()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
