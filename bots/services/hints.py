"""Wakes an owner's engine. A hint may be lost: what is to be true stands in the database."""

from __future__ import annotations

from django.db import transaction

from risk.services.hints import group_tell

# Every engine host listens here: also an owner who has no engine yet is heard by whoever can start one.
ENGINE_GROUP = "engines"


def engine_hint(owner_id: int, *, by_hand: bool = False) -> None:
    """Tell the engine of ``owner_id`` to look at the database, once the present transaction has committed.

    ``by_hand`` says that a command waits which changes no configuration and which a person waits for. Sends
    ``{"type": "engine.hint", "owner_id": ..., "by_hand": ...}``. Never raises: with the channel layer away the engine
    finds the change when it looks by itself.
    """
    transaction.on_commit(lambda: _send(owner_id, by_hand), robust=True)


def _send(owner_id: int, by_hand: bool) -> None:
    hint = {"type": "engine.hint", "owner_id": owner_id, "by_hand": by_hand}
    group_tell(ENGINE_GROUP, hint, f"a wish of owner {owner_id}")
