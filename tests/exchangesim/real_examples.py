"""Compare what the simulator sends with the recorded real examples, allowing what is named with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.exchangesim.conformance import differences
from tests.recordings import recording

Reasons = Mapping[str, str]


@dataclass(frozen=True)
class Allowed:
    """Differences from the example that are right, each path with its reason."""

    extra: Reasons = field(default_factory=dict)
    """Keys that the example, older or shortened, does not have and the documentation does."""
    missing: Reasons = field(default_factory=dict)
    """Keys of the example that the message here does not have."""
    unlike: Reasons = field(default_factory=dict)
    """Values of another kind than the example's: empty where it has a figure, or the reverse."""


def compare(path: str, ours: object, allowed: Allowed | None = None) -> None:
    """Fail with every difference between ours and the real example that is not allowed, and every needless reason."""
    allowed = allowed or Allowed()
    real = json.loads(recording(f"order_json/{path}").read_text())
    found = differences(ours, real, extra=allowed.extra, missing=allowed.missing)
    unexplained = [line for line in found if line.partition(":")[0] not in allowed.unlike]
    assert not unexplained, "\n".join([path, *unexplained])
    everything = {line.partition(":")[0] for line in differences(ours, real)}
    needless = {*allowed.extra, *allowed.missing, *allowed.unlike} - everything
    assert not needless, f"{path}: no such differences: {sorted(needless)}"


def below(prefix: str, names: str, reason: str) -> dict[str, str]:
    """Return the same reason for several keys of one object."""
    return {f"{prefix}{name}": reason for name in names.split()}
