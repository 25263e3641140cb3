"""The part of an order's page that shows what is known of a disputed order, and takes a person's decision on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextInputWidget

from bots.admin.display import COMMAND_STATES, EMPTY, age, amount, moment, state
from bots.models import Command, Fill, Order
from bots.services.disputes import (
    CLOCK_MARGIN,
    DECIDE,
    FillText,
    evidence_of,
    order_adopt,
    order_mark_absent,
    order_mark_filled,
)

ROWS = 5
SHOWN = 50
_CANDIDATE = ("exchange_order_id", "side", "price", "quantity", "filled")


def _text(label: str, help_text: str = "", **attrs: str) -> forms.CharField:
    return forms.CharField(
        label=label,
        required=False,
        max_length=600,
        help_text=help_text,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", **attrs}),
    )


class _DecisionForm(forms.Form):
    """One of the three decisions; the service checks what was entered."""

    title = ""
    explanation = ""
    button = ""

    def ask(self, order: Order, actor: User) -> Command:
        raise NotImplementedError


class AbsentForm(_DecisionForm):
    title = "The exchange never had it"
    explanation = "The order becomes failed, its money is free again, and what the trade's other legs did is hedged."
    button = "Mark absent"
    reason = _text("Reason", "Kept with your name.")

    def ask(self, order: Order, actor: User) -> Command:
        return order_mark_absent(order=order, actor=actor, reason=self.cleaned_data["reason"])


class AdoptForm(_DecisionForm):
    title = "It is this order of the exchange's"
    explanation = "The exchange is asked for it; what it executed is booked under our order."
    button = "Adopt"
    exchange_order_id = _text("Exchange order id", "One of those above, or as the exchange's own page shows it.")
    reason = _text("Reason", "Kept with your name.")

    def ask(self, order: Order, actor: User) -> Command:
        given = self.cleaned_data
        return order_adopt(
            order=order, actor=actor, reason=given["reason"], exchange_order_id=given["exchange_order_id"]
        )


class FilledForm(_DecisionForm):
    title = "It filled like this"
    explanation = (
        "These fills are booked. The order is filled if they come to its whole quantity, else cancelled with them."
    )
    button = "Mark filled"
    reason = _text("Reason", "Kept with your name.")


class FillRow(forms.Form):
    exchange_trade_id = _text("Exchange trade id")
    quantity = _text("Quantity")
    price = _text("Price")
    fee = _text("Fee")
    fee_asset = _text("Fee asset")
    at = _text("Time, UTC", placeholder="2026-11-25 16:30:05")


class DisputePanel:
    """What an order's page shows of a dispute: evidence, candidates, the forms and what became of decisions asked."""

    def __init__(self, order: Order, user: User, data: Mapping[str, Any] | None = None) -> None:
        self.order = order
        self.evidence = evidence_of(order)
        asked = Command.objects.filter(
            owner_id=order.owner_id,
            kind=Command.Kind.ORDER_DECIDE,
            payload__client_order_id=order.client_order_id,
        ).select_related("requested_by")
        self.commands = list(asked[:10])
        self.pending = any(command.status == Command.Status.PENDING for command in self.commands)
        self.disputed = order.state == Order.State.DISPUTED.value
        self.may_decide = self.disputed and not self.pending and user.has_perm(DECIDE)
        self.chosen = (data or {}).get("decision", "")
        self.absent = AbsentForm(data if self.chosen == "absent" else None, prefix="absent")
        self.adopt = AdoptForm(data if self.chosen == "adopt" else None, prefix="adopt")
        self.filled = FilledForm(data if self.chosen == "filled" else None, prefix="filled")
        rows = forms.formset_factory(FillRow, extra=ROWS, max_num=ROWS, absolute_max=ROWS)
        self.rows = rows(data if self.chosen == "filled" else None, prefix="fills")
        self.unassigned = list(
            Fill.objects.filter(
                owner_id=order.owner_id,
                account_id=order.account_id,
                market_id=order.market_id,
                side=order.side,
                order__isnull=True,
                at__gte=order.created_at - CLOCK_MARGIN,
            )[:SHOWN]
        )
        self.checked = set(data.getlist("chosen")) if self.chosen == "filled" and hasattr(data, "getlist") else set()

    @property
    def is_shown(self) -> bool:
        return self.disputed or bool(self.evidence.asked or self.evidence.text or self.commands)

    @property
    def summary(self) -> str:
        """Return what was ordered, and what of it is known to be filled."""
        order = self.order
        return (
            f"{order.side} {amount(order.quantity)} {order.market} at {amount(order.price)} at the "
            f"{'most' if order.side == Order.Side.BUY else 'least'}, account {order.account.label}, "
            f"{amount(order.filled)} filled"
        )

    def ask(self, actor: User) -> Command:
        """Ask for the decision that was entered; raises ValidationError, whose sentences are then in the form."""
        form = {"absent": self.absent, "adopt": self.adopt, "filled": self.filled}.get(self.chosen)
        if form is None:
            raise ValidationError("decision: absent, adopt or filled.")
        if not form.is_valid() or (form is self.filled and not self.rows.is_valid()):
            raise ValidationError("Look at the marked fields.")
        try:
            return self._filled(actor) if form is self.filled else form.ask(self.order, actor)
        except ValidationError as problem:
            errors = problem.error_dict if hasattr(problem, "error_dict") else {None: problem}
            for field, error in errors.items():
                form.add_error(field if field in form.fields else None, error)
            raise

    def _filled(self, actor: User) -> Command:
        typed = [FillText(**row) for row in self.rows.cleaned_data if any(row.values())]
        chosen = [fill for fill in self.unassigned if str(fill.pk) in self.checked]
        reason = self.filled.cleaned_data["reason"]
        return order_mark_filled(order=self.order, actor=actor, reason=reason, typed=typed, chosen=chosen)

    # --- tables ------------------------------------------------------------------------------------------------

    @property
    def evidence_table(self) -> dict[str, Any]:
        rows = [[moment(at), question.replace("_", " "), answer] for at, question, answer in self.evidence.asked]
        return {"headers": ["At", "Asked", "Answer"], "rows": rows}

    @property
    def candidate_table(self) -> dict[str, Any]:
        # What the exchange does not tell of an open order is empty or zero.
        untold = {"", "0"}
        rows = [
            [EMPTY if name != "filled" and row.get(name, "") in untold else row.get(name, EMPTY) for name in _CANDIDATE]
            for row in self.evidence.candidates
        ]
        return {"headers": ["Exchange order id", "Side", "Price", "Quantity", "Filled"], "rows": rows}

    @property
    def command_table(self) -> dict[str, Any]:
        rows = [
            [
                f"#{command.pk} {command.payload['decision']}",
                str(command.requested_by or EMPTY),
                command.payload["reason"],
                state(command, "status", COMMAND_STATES),
                command.result or EMPTY,
                age(command.created_at),
            ]
            for command in self.commands
        ]
        return {"headers": ["Decision", "By", "Reason", "Status", "Result", "Age"], "rows": rows}

    @property
    def unassigned_rows(self) -> list[tuple[Fill, str, bool]]:
        return [
            (fill, f"{amount(fill.quantity)} at {amount(fill.price)}", str(fill.pk) in self.checked)
            for fill in self.unassigned
        ]
