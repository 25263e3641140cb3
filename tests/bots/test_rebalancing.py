"""Requests to rebalance: proposed once, decided on by a second person, carried out once, followed to their end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection
from django.utils import timezone

from bots import live_cache
from bots.models import (
    Asset,
    Balance,
    Bot,
    Command,
    Difference,
    ExchangeAccount,
    ListedAsset,
    Order,
    Ticket,
    Trade,
)
from bots.selectors.rebalancing import rebalance_may
from bots.services.bots import bot_start
from bots.services.commands import command_finish
from bots.services.rebalancing import (
    rebalance_approve,
    rebalance_cancel,
    rebalance_moved,
    rebalance_propose,
    rebalance_reject,
    rebalances_follow,
    rebalances_propose,
)
from bots.services.tickets import manual_bot
from bots.tasks import follow_rebalances, propose_rebalances
from risk.models import Approval, RebalanceEvent, RebalanceRequest, RebalanceSettings
from risk.services.rating_settings import rebalance_update, settings_ensure
from risk.services.rebalancing import requests_expire
from tests.bots.durable import trade_commit
from tests.bots.world import World
from tests.live.items import quote

pytestmark = [pytest.mark.django_db, pytest.mark.database]
seen_by_all = pytest.mark.django_db(transaction=True)  # threads have connections of their own

D = Decimal


@pytest.fixture(autouse=True)
def _quotes() -> Any:
    live_cache.last_known.clear()
    live_cache.last_known.remember([quote(code, bid=49_995.0, ask=50_005.0) for code in ("alpha", "beta")])
    yield
    live_cache.last_known.clear()


class Scene:
    """anna's two live accounts with what they hold, her engine running."""

    def __init__(self, world: World) -> None:
        self.world, self.anna, self.operator = world, world.anna, world.operator
        self.bot = world.bot(world.anna)
        Bot.objects.filter(pk=self.bot.pk).update(desired_state="running")
        rows = ExchangeAccount.objects.filter(owner=world.anna).select_related("exchange")
        rows.update(observed_state="live")
        self.alpha, self.beta = rows.get(exchange__code="alpha"), rows.get(exchange__code="beta")
        world.lease(world.anna)

    def hold(self, account: ExchangeAccount, btc: str, usdt: str) -> None:
        for asset, free in (("BTC", btc), ("USDT", usdt)):
            Balance.objects.update_or_create(
                owner=self.anna, account=account, asset=asset,
                defaults={"free": D(free), "used": D(0), "at": timezone.now()},
            )  # fmt: skip

    def propose(self) -> list[RebalanceRequest]:
        return rebalances_propose(owner_id=self.anna.pk)

    def sale(self) -> RebalanceRequest:
        """A proposal of the platform to sell on alpha; trading by hand is started."""
        self.hold(self.alpha, "0.2", "0")
        self.hold(self.beta, "0.1", "5000")
        (found,) = self.propose()
        self.start()
        return found

    def start(self) -> None:
        bot_start(bot=manual_bot(owner=self.anna, mode="live"), actor=self.anna)

    def by_hand(self, actor: Any = None, **changes: Any) -> RebalanceRequest:
        data = {
            "kind": "convert", "account_id": self.alpha.pk, "symbol": "BTC/USDT", "side": "sell", "amount": "0.1",
            "reason": "Alpha has too much.", **changes,
        }  # fmt: skip
        return rebalance_propose(owner=self.anna, actor=actor or self.anna, data=data)


@pytest.fixture
def scene(world: World) -> Scene:
    return Scene(world)


def again(row: RebalanceRequest) -> RebalanceRequest:
    return RebalanceRequest.objects.get(pk=row.pk)


def refusal(work: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        work(**arguments)
    return " ".join(caught.value.messages)


# --- proposing ----------------------------------------------------------------------------------------------------


def test_the_platform_proposes_what_balances_call_for_once(scene: Scene) -> None:
    sale = scene.sale()
    assert (sale.kind, sale.side, sale.asset, sale.amount, sale.account_id) == (
        "convert", "sell", "BTC", D("0.1"), scene.alpha.pk,
    )  # fmt: skip
    assert (sale.state, sale.proposed_by, sale.value, sale.cost_bps) == ("PROPOSED", None, D(5000), D(11))
    assert [(effect["before"], effect["after"]) for effect in sale.effects] == [("1.0000", "0.5000")]
    assert "100 % BTC" in sale.reason
    assert scene.propose() == [], "it is open"
    rebalance_reject(request_id=sale.pk, actor=scene.operator, reason="Prices will fall.")
    assert scene.propose() == [], "it was rejected a moment ago"
    RebalanceRequest.objects.update(ended_at=timezone.now() - timedelta(hours=7))
    assert len(scene.propose()) == 1


def test_opposite_skews_are_moved_not_converted(scene: Scene) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    scene.hold(scene.beta, "0", "10000")
    base, back = scene.propose()
    assert (base.kind, base.asset, base.amount) == ("move", "BTC", D("0.1"))
    assert (base.account_id, base.to_account_id) == (scene.alpha.pk, scene.beta.pk)
    assert (back.asset, back.amount, back.account_id) == ("USDT", D(5000), scene.beta.pk)
    assert base.cost_bps is None


def test_what_balances_no_longer_call_for_is_withdrawn(scene: Scene) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    scene.hold(scene.beta, "0", "10000")
    moves = scene.propose()
    scene.hold(scene.alpha, "0.12", "4000")
    scene.propose()
    assert {again(one).state for one in moves} == {"PROPOSED"}, "beta is as short as before"
    scene.hold(scene.beta, "0.08", "6000")
    assert scene.propose() == []
    assert {(again(one).state, again(one).outcome) for one in moves} == {
        ("EXPIRED", "The balances no longer call for it."),
    }  # fmt: skip
    own = scene.by_hand(amount="0.01")
    scene.propose()
    assert again(own).state == "PROPOSED", "what a person wants is theirs to take back"


def test_coins_that_are_not_the_same_are_converted_where_they_are(scene: Scene) -> None:
    ListedAsset.objects.create(exchange=scene.beta.exchange, asset=Asset.objects.get(pk="BTC"), ruling="other")
    scene.hold(scene.alpha, "0.2", "0")
    scene.hold(scene.beta, "0", "10000")
    assert [one.kind for one in scene.propose()] == ["convert", "convert"]


def test_nothing_is_proposed_without_prices_an_engine_or_leave(scene: Scene) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    live_cache.last_known.clear()
    assert scene.propose() == []
    _quote_again()
    settings_ensure(RebalanceSettings)
    rebalance_update(actor=scene.operator, values={"enabled": False}, seen_version=1)
    assert scene.propose() == []
    rebalance_update(actor=scene.operator, values={"enabled": True}, seen_version=2)
    ExchangeAccount.objects.update(observed_state="down")
    assert scene.propose() == [], "what the account holds now is not known"
    ExchangeAccount.objects.update(observed_state="live")
    assert len(scene.propose()) == 1


def _quote_again() -> None:
    live_cache.last_known.remember([quote(code, bid=49_995.0, ask=50_005.0) for code in ("alpha", "beta")])


def test_settings_are_checked(scene: Scene) -> None:
    settings_ensure(RebalanceSettings)
    for values in ({"target": D(1)}, {"band": D(0)}, {"lifetime_hours": D(0)}, {"least_value": D(20_000)}):
        assert refusal(rebalance_update, actor=scene.operator, values=values, seen_version=1)
    with pytest.raises(PermissionDenied):
        rebalance_update(actor=scene.anna, values={"band": D("0.2")}, seen_version=1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "swap"}, "kind"), ({"reason": " "}, "reason"), ({"amount": "9"}, "amount"),
        ({"amount": "NaN"}, "amount"), ({"account_id": 0}, "account_id"), ({"symbol": "BTC/USDT:USDT"}, "symbol"),
        ({"side": "hold"}, "side"), ({"kind": "move", "asset": "BTC", "to_account_id": 0}, "to_account_id"),
    ],
)  # fmt: skip
def test_what_people_propose_is_checked_field_by_field(scene: Scene, changes: dict[str, Any], field: str) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    with pytest.raises(ValidationError) as caught:
        scene.by_hand(**changes)
    assert field in caught.value.message_dict
    assert not RebalanceRequest.objects.exists()


def test_a_person_proposes_on_what_is_theirs_and_nothing_twice(scene: Scene) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    with pytest.raises(PermissionDenied):
        scene.by_hand(scene.world.ben)
    row = scene.by_hand()
    assert (row.proposed_by, row.cost_bps) == (scene.anna, D(11))
    assert [(effect["before"], effect["after"]) for effect in row.effects] == [("1.0000", "0.5000")]
    assert "proposed already" in refusal(scene.by_hand, side="sell", amount="0.05")
    assert LogEntry.objects.filter(user=scene.anna, object_id=str(row.pk), change_message__startswith="Prop").exists()


# --- deciding -----------------------------------------------------------------------------------------------------


def test_an_approved_conversion_is_asked_of_the_engine_once(scene: Scene) -> None:
    sale = scene.sale()
    row = rebalance_approve(request_id=sale.pk, actor=scene.anna, note="Yes.")
    assert row.state == "RUNNING"
    command = Command.objects.get(idempotency_key=f"rebalance-{sale.pk}")
    assert row.command == command
    assert command.kind == "manual_trade"
    asked = {name: command.payload[name] for name in ("mode", "symbol", "side", "quantity", "order", "is_close_only")}
    assert asked == {
        "mode": "live", "symbol": "BTC/USDT", "side": "sell", "quantity": "0.1", "order": "adaptive",
        "is_close_only": True,
    }  # fmt: skip
    assert (command.payload["take_profit"], command.payload["stop_loss"]) == (None, None)
    told = refusal(rebalance_approve, request_id=sale.pk, actor=scene.operator)
    assert "It is running already" in told
    assert Command.objects.filter(kind="manual_trade").count() == 1
    assert [event.to_state for event in row.events.all()] == ["PROPOSED", "APPROVED", "RUNNING"]
    (approval,) = Approval.objects.all()
    assert (approval.by, approval.decision, approval.note) == (scene.anna, "approved", "Yes.")


def test_nobody_approves_their_own_proposal(scene: Scene) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    scene.start()
    own = scene.by_hand()
    assert "another person" in refusal(rebalance_approve, request_id=own.pk, actor=scene.anna)
    assert "cancel it instead" in refusal(rebalance_reject, request_id=own.pk, actor=scene.anna, reason="No.")
    assert again(own).state == "PROPOSED"
    assert rebalance_approve(request_id=own.pk, actor=scene.operator).state == "RUNNING"


def test_others_see_no_way_to_decide(scene: Scene) -> None:
    sale = scene.sale()
    for work in (rebalance_approve, rebalance_reject, rebalance_cancel, rebalance_moved):
        more = {} if work is rebalance_approve else {"reason": "Because."}
        with pytest.raises(PermissionDenied):
            work(request_id=sale.pk, actor=scene.world.ben, **more)
    scene.anna.groups.clear()
    anna = type(scene.anna).objects.get(pk=scene.anna.pk)
    with pytest.raises(PermissionDenied):
        rebalance_approve(request_id=sale.pk, actor=anna)
    assert not Approval.objects.exists()


def test_one_that_has_expired_is_not_approved(scene: Scene) -> None:
    sale = scene.sale()
    RebalanceRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "It expired at" in refusal(rebalance_approve, request_id=sale.pk, actor=scene.anna)
    assert requests_expire() == 1
    assert requests_expire() == 0
    assert again(sale).state == "EXPIRED"
    assert "expired already" in refusal(rebalance_approve, request_id=sale.pk, actor=scene.anna)
    assert not Command.objects.filter(kind="manual_trade").exists()
    assert len(scene.propose()) == 1, "with the figures of now"


def test_what_cannot_be_carried_out_is_not_approved(scene: Scene) -> None:
    sale = scene.sale()
    scene.hold(scene.alpha, "0.05", "5000")
    told = refusal(rebalance_approve, request_id=sale.pk, actor=scene.anna)
    assert "Needs 0.1 BTC; Main has 0.05 free" in told
    scene.hold(scene.alpha, "0.2", "0")
    Bot.objects.filter(strategy="manual").update(desired_state="stopped")
    assert "Start trading by hand first" in refusal(rebalance_approve, request_id=sale.pk, actor=scene.anna)
    assert again(sale).state == "PROPOSED"
    assert not Approval.objects.exists()
    assert RebalanceEvent.objects.count() == 1


def test_a_rejection_needs_a_reason_and_a_cancellation_ends_it(scene: Scene) -> None:
    sale = scene.sale()
    assert "Say why" in refusal(rebalance_reject, request_id=sale.pk, actor=scene.anna, reason=" ")
    assert rebalance_cancel(request_id=sale.pk, actor=scene.anna, reason="Not now.").outcome == "Not now."
    assert "It is cancelled already by anna (Not now): nothing was changed." in refusal(
        rebalance_reject, request_id=sale.pk, actor=scene.operator, reason="No."
    )


@seen_by_all
def test_two_operators_at_one_moment_are_one_effect(scene: Scene) -> None:
    sale = scene.sale()

    def approve(actor: Any) -> str:
        try:
            return rebalance_approve(request_id=sale.pk, actor=actor).state
        except ValidationError as problem:
            return " ".join(problem.messages)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as both:
        told = sorted(both.map(approve, (scene.anna, scene.operator)))
    assert told[1] == "RUNNING"
    assert told[0].startswith("It is running already")
    assert Command.objects.filter(kind="manual_trade").count() == 1
    assert Approval.objects.count() == 1


@seen_by_all
def test_two_proposers_at_one_moment_make_one_proposal(scene: Scene) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    scene.hold(scene.beta, "0.1", "5000")

    def propose(_: int) -> int:
        try:
            return len(scene.propose())
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as both:
        assert sum(both.map(propose, range(2))) == 1
    assert RebalanceRequest.objects.count() == 1


# --- what became of it --------------------------------------------------------------------------------------------


def test_what_the_engine_refused_has_failed_with_its_reason(scene: Scene) -> None:
    sale = scene.sale()
    row = rebalance_approve(request_id=sale.pk, actor=scene.anna)
    assert rebalances_follow() == 0
    command_finish(command_id=row.command_id, failed=True, result="Trading is switched to killed.")
    assert rebalances_follow() == 1
    assert (again(sale).state, again(sale).outcome) == ("FAILED", "Trading is switched to killed.")
    assert rebalances_follow() == 0
    assert len(scene.propose()) == 1, "nothing was sent, so it may be asked again"


def traded(scene: Scene, row: RebalanceRequest) -> Trade:
    """What an engine's ticket leaves in the database once it has ended; its orders are written a moment later."""
    token = scene.world.token(scene.anna)
    record = scene.world.trade(scene.bot, token)
    intent = scene.world.intents(scene.bot, record)[0]
    trade_commit(owner_id=scene.anna.pk, token=token, trade=record, intents=[intent])
    trade = Trade.objects.get(trade_id=record.trade_id)
    assert row.market is not None
    Ticket.objects.create(
        owner=scene.anna, trade=trade, command=row.command, account=row.account, market=row.market, side="sell",
        quantity=row.amount, limit_cap=D(49_000), is_close_only=True, entry_price=D("50001.5"), improvement=D("0.65"),
    )  # fmt: skip
    Trade.objects.filter(pk=trade.pk).update(state="CLOSED", fees={"USDT": "5.0"}, reason="the book is thin")
    return trade


def test_a_conversion_has_ended_once_its_orders_are_known_to_have(scene: Scene) -> None:
    row = rebalance_approve(request_id=scene.sale().pk, actor=scene.anna)
    trade = traded(scene, row)
    assert rebalances_follow() == 0, "what its order has filled is not written yet"
    assert (again(row).state, again(row).trade) == ("RUNNING", trade)
    Order.objects.filter(trade=trade).update(state="CANCELLED", filled=D("0.06"))
    assert rebalances_follow() == 1
    done = again(row)
    assert (done.state, done.filled, done.realised_price, done.improvement) == (
        "DONE", D("0.06"), D("50001.5"), D("0.65"),
    )  # fmt: skip
    assert done.fees == {"USDT": "5.0"}
    assert done.outcome == "0.06 of 0.1 BTC were converted: the book is thin."


def test_a_conversion_whose_order_is_disputed_waits_for_a_person(scene: Scene) -> None:
    row = rebalance_approve(request_id=scene.sale().pk, actor=scene.anna)
    trade = traded(scene, row)
    Trade.objects.filter(pk=trade.pk).update(state="EXPOSED", reason="an order is DISPUTED")
    assert rebalances_follow() == 0
    assert (again(row).state, again(row).outcome) == ("RUNNING", "an order is DISPUTED")


def test_one_that_filled_nothing_has_failed_and_pauses(scene: Scene) -> None:
    row = rebalance_approve(request_id=scene.sale().pk, actor=scene.anna)
    trade = traded(scene, row)
    Trade.objects.filter(pk=trade.pk).update(state="FAILED", reason="the book is thin")
    Order.objects.filter(trade=trade).update(state="CANCELLED")
    assert rebalances_follow() == 1
    assert (again(row).state, again(row).outcome) == ("FAILED", "the book is thin")
    assert scene.propose() == [], "it was tried a moment ago"


def move(scene: Scene) -> RebalanceRequest:
    scene.hold(scene.alpha, "0.2", "0")
    row = scene.by_hand(kind="move", to_account_id=scene.beta.pk, asset="BTC", amount="0.1")
    return rebalance_approve(request_id=row.pk, actor=scene.operator)


def adopted(scene: Scene, account: ExchangeAccount, amount: str) -> Difference:
    now = timezone.now()
    return Difference.objects.create(
        owner=scene.anna, account=account, kind="balance", key="BTC", asset="BTC", amount=D(amount), cause="deposit",
        state="adopted", first_seen=now, last_seen=now, decided_at=now, decided_by=scene.anna,
    )  # fmt: skip


def test_a_move_has_ended_when_both_its_sides_were_adopted(scene: Scene) -> None:
    early = adopted(scene, scene.alpha, "-0.1")
    row = move(scene)
    assert row.state == "APPROVED"
    assert "running" not in again(row).outcome
    assert rebalances_follow() == 0, "what was adopted before was something else"
    assert again(row).sent is None
    early.delete()
    adopted(scene, scene.alpha, "-0.3")
    sent = adopted(scene, scene.alpha, "-0.1")
    assert rebalances_follow() == 0
    assert (again(row).sent, again(row).state) == (sent, "APPROVED")
    assert "arrival on" in again(row).outcome
    assert "It has left already" in refusal(rebalance_cancel, request_id=row.pk, actor=scene.anna, reason="Oh.")
    assert rebalance_may(again(row), scene.anna) == ["moved"]
    adopted(scene, scene.beta, "0.0995")
    assert rebalances_follow() == 1
    assert (again(row).state, again(row).filled) == ("DONE", D("0.0995"))
    assert "0.0995 of 0.1 BTC have arrived" in again(row).outcome


def test_a_person_may_say_that_a_move_was_made(scene: Scene) -> None:
    row = move(scene)
    assert "Say why" in refusal(rebalance_moved, request_id=row.pk, actor=scene.anna, reason="")
    done = rebalance_moved(request_id=row.pk, actor=scene.anna, reason="Sent it last night.")
    assert (done.state, done.outcome) == ("DONE", "A person says that it was made: Sent it last night.")


def test_a_conversion_is_nobodys_to_declare_done(scene: Scene) -> None:
    sale = scene.sale()
    assert "Only a move" in refusal(rebalance_moved, request_id=sale.pk, actor=scene.operator, reason="Done.")


# --- the tasks ----------------------------------------------------------------------------------------------------


def test_the_tasks_propose_and_end_what_nobody_decided_on(scene: Scene) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    assert propose_rebalances() == 1
    assert propose_rebalances() == 0
    assert follow_rebalances() == 0
    RebalanceRequest.objects.update(expires_at=timezone.now())
    assert follow_rebalances() == 1
    assert RebalanceRequest.objects.get().state == "EXPIRED"
