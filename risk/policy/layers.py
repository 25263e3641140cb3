"""Limits in layers: everybody's, an owner's, a bot's, an exchange's, a pair's. The tightest of a rule binds.

A layer can only tighten, so adding one never allows more, and the order in which layers are looked at does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

import msgspec

# Rules whose higher value is the tighter one; of all others it is the lower.
FLOORS = frozenset({"min_net_edge_bps", "cooldown_ms"})


# Of what a layer over several bots bounds, these add up over all of an owner's bots.
TOGETHER = ("max_open_trades", "max_daily_loss")


class LayerScope(StrEnum):
    """Whom a layer is over, from the widest to the narrowest."""

    GLOBAL = "global"
    OWNER = "owner"
    BOT = "bot"
    EXCHANGE = "exchange"
    PAIR = "pair"


WIDEST_FIRST = {scope: position for position, scope in enumerate(LayerScope)}


def layer_name(scope: str, subject: str) -> str:
    """Return how a layer is called in a sentence: ``everybody``, ``owner anna``, ``exchange binance``."""
    return "everybody" if scope == LayerScope.GLOBAL else f"{scope} {subject}"


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of one scope, in its rule's unit. ``subject`` names whom it is over; empty for everybody."""

    scope: LayerScope
    subject: str = ""
    rule: str
    value: Decimal


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a rule's layers: the value that binds, and whose it is."""

    value: Decimal
    scope: LayerScope
    subject: str = ""

    @property
    def source(self) -> str:
        return layer_name(self.scope, self.subject)


def is_tighter(rule: str, value: Decimal, other: Decimal) -> bool:
    """Return whether ``value`` allows less than ``other``."""
    return value > other if rule in FLOORS else value < other


def tightest(layers: Iterable[Layer]) -> dict[str, Bound]:
    """Return the bound of each rule that has a layer; of equal ones the widest scope's.

    Raises
    ------
    ValueError
        If a value is not finite: it could be neither tighter nor looser than another.
    """
    found: dict[str, Layer] = {}
    for layer in layers:
        if not layer.value.is_finite():
            raise ValueError(f"{layer.rule} of {layer_name(layer.scope, layer.subject)}: {layer.value} is no limit")
        present = found.get(layer.rule)
        if present is None or _binds_before(layer, present):
            found[layer.rule] = layer
    return {
        rule: Bound(value=layer.value, scope=layer.scope, subject=layer.subject)
        for rule, layer in found.items()
    }  # fmt: skip


def _binds_before(layer: Layer, present: Layer) -> bool:
    if layer.value != present.value:
        return is_tighter(layer.rule, layer.value, present.value)
    return (WIDEST_FIRST[layer.scope], layer.subject) < (WIDEST_FIRST[present.scope], present.subject)
