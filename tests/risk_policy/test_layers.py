"""Layers of limits: the tightest binds, whatever the order, and another layer never allows more."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.layers import FLOORS, Layer, LayerScope, layer_name, tightest

D = Decimal
RULES = ("max_trade_notional", "max_edge_bps", "min_net_edge_bps", "cooldown_ms")
LAYERS = st.builds(
    lambda scope, subject, rule, value: Layer(
        scope=scope, subject="" if scope is LayerScope.GLOBAL else subject, rule=rule, value=value
    ),
    scope=st.sampled_from(LayerScope),
    subject=st.sampled_from(("anna", "ben")),
    rule=st.sampled_from(RULES),
    value=st.decimals(min_value=0, max_value=1000, places=2),
)


def allows(bounds, rule: str, value: Decimal) -> bool:
    """Whether a value of the bounded figure is within the bound."""
    if rule not in bounds:
        return True
    return value >= bounds[rule].value if rule in FLOORS else value <= bounds[rule].value


@given(layers=st.lists(LAYERS), more=LAYERS, value=st.decimals(min_value=0, max_value=1000, places=2))
def test_another_layer_never_allows_more(layers, more, value):
    before, after = tightest(layers), tightest([*layers, more])
    for rule in RULES:
        assert allows(before, rule, value) or not allows(after, rule, value)


@given(layers=st.lists(LAYERS), tighter=st.decimals(min_value=0, max_value=10, places=2), data=st.data())
def test_a_tightened_layer_never_allows_more(layers, tighter, data):
    if not layers:
        return
    at = data.draw(st.integers(0, len(layers) - 1))
    changed = layers[at]
    value = changed.value + tighter if changed.rule in FLOORS else max(D(0), changed.value - tighter)
    tightened = [*layers[:at], Layer(scope=changed.scope, subject=changed.subject, rule=changed.rule, value=value)]
    tightened += layers[at + 1 :]
    before, after = tightest(layers), tightest(tightened)
    assert all(allows(before, rule, bound.value) for rule, bound in after.items())


@given(layers=st.lists(LAYERS), data=st.data())
def test_order_does_not_matter(layers, data):
    assert tightest(data.draw(st.permutations(layers))) == tightest(layers)


@given(layers=st.lists(LAYERS, min_size=1))
def test_the_bound_is_one_of_the_layers_and_names_it(layers):
    for rule, bound in tightest(layers).items():
        [named, *_] = [
            layer
            for layer in layers
            if (layer.scope, layer.subject, layer.rule, layer.value) == (bound.scope, bound.subject, rule, bound.value)
        ]
        assert bound.source == layer_name(named.scope, named.subject)


def test_of_equal_layers_the_widest_is_named():
    layers = [
        Layer(scope=scope, subject="x" if scope != LayerScope.GLOBAL else "", rule="max_edge_bps", value=D(5))
        for scope in reversed(LayerScope)
    ]
    assert tightest(layers)["max_edge_bps"].source == "everybody"
    assert tightest(layers[:-1])["max_edge_bps"].source == "owner x"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_finite_is_no_limit(value):
    layer = Layer(scope=LayerScope.BOT, subject="Wide net", rule="max_edge_bps", value=D(value))
    with pytest.raises(ValueError, match="max_edge_bps of bot Wide net"):
        tightest([layer])
