"""Does a simulated answer have the shape of a real one? Keys and JSON types, compared recursively.

The real example is the reference: every key in it must be in ours, with the same type, and ours may have no key that
is not in the example, unless listed. A list's every element must have the shape of one of the example's elements.
Strings that hold numbers are compared as such: where the real exchange sends ``"0.10"``, ``"abc"`` is a difference.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_NUMBER = re.compile(r"^-?[0-9]+(\.[0-9]+)?$")


def differences(
    ours: object,
    real: object,
    *,
    extra: Collection[str] = (),
    missing: Collection[str] = (),
    free_keys: Collection[str] = (),
    path: str = "",
) -> list[str]:
    """Return every difference as a line ``path: what``; empty when the shapes agree.

    ``extra`` are paths of keys we may have beyond the example, ``missing`` paths we may lack, ``free_keys`` paths of
    objects whose keys are data (asset names). Paths are like ``data[].fills[].price``; name each with its reason where
    it is listed.
    """
    if isinstance(real, dict):
        if not isinstance(ours, dict):
            return [f"{path}: {_kind(ours)} where the exchange sends an object"]
        if path in free_keys:
            return _free(ours, real, extra=extra, missing=missing, free_keys=free_keys, path=path)
        found = []
        for key in sorted(set(real) | set(ours)):
            below = f"{path}.{key}" if path else key
            if key not in ours:
                found += [] if below in missing else [f"{below}: missing"]
            elif key not in real:
                found += [] if below in extra else [f"{below}: the exchange has no such key"]
            else:
                found += differences(
                    ours[key], real[key], extra=extra, missing=missing, free_keys=free_keys, path=below
                )
        return found
    if isinstance(real, list):
        if not isinstance(ours, list):
            return [f"{path}: {_kind(ours)} where the exchange sends a list"]
        return _list(ours, real, extra=extra, missing=missing, free_keys=free_keys, path=path)
    if _kind(ours) != _kind(real):
        return [f"{path}: {_kind(ours)} ({ours!r}) where the exchange sends {_kind(real)} ({real!r})"]
    return []


def _free(ours: dict[str, object], real: dict[str, object], *, path: str, **lists: Collection[str]) -> list[str]:
    example = next(iter(real.values()), None)
    return [line for value in ours.values() for line in differences(value, example, path=f"{path}.*", **lists)]


def _list(ours: list[object], real: list[object], *, path: str, **lists: Collection[str]) -> list[str]:
    if real and not ours:
        return [f"{path}[]: empty, so nothing is compared"]
    if real and all(not isinstance(item, dict | list) for item in real) and len(real) == len(ours):
        # A row such as [price, quantity]: position by position.
        return [
            line
            for index, (mine, theirs) in enumerate(zip(ours, real, strict=True))
            for line in differences(mine, theirs, path=f"{path}[{index}]", **lists)
        ]
    found: list[str] = []
    for item in ours:
        tries = [differences(item, example, path=f"{path}[]", **lists) for example in real]
        if tries:
            best = min(tries, key=len)
            found += [line for line in best if line not in found]
    return found


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        if value == "":
            return "empty string"
        return "numeric string" if _NUMBER.match(value) else "string"
    return "list" if isinstance(value, list) else "object"
